"""Findings of a data check: each names file, record, field, value and what would be right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from mammo_d2.core.files import FileFormatError


class SchemaError(FileFormatError):
    """A data set file that does not follow the format; the message lists what is wrong."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        level: "error" or "warning".
        code: short stable name of the kind of problem, e.g. "annotation-id-zero".
        file: the file it was found in.
        record: e.g. "image 12" or "annotation 7".
        field: key within the record; "" if the record as a whole is meant.
        value: the offending value, as it is in the file.
        message: what is wrong.
        remedy: what to do about it.
    """

    level: str
    code: str
    file: str
    record: str
    field: str
    value: Any
    message: str
    remedy: str

    @property
    def text(self) -> str:
        """The problem without its level."""
        where = f"{self.record}.{self.field}" if self.field else self.record
        shown = repr(self.value)
        if len(shown) > 80:
            shown = shown[:77] + "..."
        return f"{self.file}: {where} = {shown}: {self.message}; {self.remedy}"

    def __str__(self) -> str:
        return f"{self.level}: {self.text}"


@dataclass
class Report:
    """All problems found in one check, in the order found."""

    problems: list[Problem] = field(default_factory=list)

    def add(
        self, level: str, code: str, file: str, record: str, field: str, value: Any, message: str, remedy: str
    ) -> None:
        """Append one problem; see ``Problem`` for the arguments."""
        self.problems.append(Problem(level, code, file, record, field, value, message, remedy))

    def extend(self, other: Report) -> None:
        """Append another report's problems."""
        self.problems.extend(other.problems)

    @property
    def errors(self) -> list[Problem]:
        """The problems that make the file unusable."""
        return [p for p in self.problems if p.level == "error"]

    @property
    def warnings(self) -> list[Problem]:
        """The problems that leave the file usable."""
        return [p for p in self.problems if p.level == "warning"]

    @property
    def ok(self) -> bool:
        """Whether there is no error (warnings allowed)."""
        return not self.errors

    def format(self, limit: int = 20) -> str:
        """Text for a person: at most ``limit`` problems of each code, errors first, then a line of counts."""
        lines: list[str] = []
        for level, problems in (("error", self.errors), ("warning", self.warnings)):
            shown: Counter[str] = Counter()
            for problem in problems:
                shown[problem.code] += 1
                if shown[problem.code] <= limit:
                    lines.append(str(problem))
            lines += [f"{level}: ... and {n - limit} more of {code}" for code, n in shown.items() if n > limit]
        lines.append(f"{len(self.errors)} errors, {len(self.warnings)} warnings")
        return "\n".join(lines)

    def raise_if_errors(self) -> None:
        """Raise ``SchemaError`` if there is any error: with its text, or with those of several in lines."""
        if len(self.errors) == 1:
            raise SchemaError(self.errors[0].text)
        if not self.ok:
            raise SchemaError(f"{len(self.errors)} errors\n{Report(self.errors).format(limit=5)}")
