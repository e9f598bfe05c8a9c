"""How a study turns what a data set says (BI-RADS, pathology, ...) into benign, malignant or unknown: a table in YAML.

```yaml
breast:                                      # or image, exam, finding
  - {birads: [4, 5], is: malignant}          # the first row that fits decides
  - {birads: [2, 3], is: benign}
  - {birads: 1, is: normal}
  - {birads: [0, ""], is: unknown}           # "" is a missing value
otherwise: error                             # of facts that no row fits; or unknown
```

A row compares facts with values, word by word and without case; text is never searched for words. ``"*"`` is any value
but a missing one, and a BI-RADS of one digit holds for its letters, too (4: 4, 4A, 4B, 4C). All facts of a row must
fit.

``finding`` gives the category of a box: benign, malignant, unknown (the box is kept apart, the image is no negative) or
left out (the image is left out, because without the box it would count as negative). ``image`` and ``breast`` give the
labels of an image: ``LABELS_OF``, or left out. An ``exam`` that is positive does not say in which of its images, so
only its negative labels are passed on. Where several of them speak, the image's own table comes first, then its
breast's, then its exam's. Without any of them the labels follow from the findings.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mammo_d2.core.files import read_yaml
from mammo_d2.core.lesion_classes import LABELS

#: What labels of an image follow from, the first first.
IMAGE_LEVELS = ("image", "breast", "exam")
LABEL_LEVELS = ("finding", *IMAGE_LEVELS)
LEFT_OUT, UNKNOWN = "left out", "unknown"
#: Labels (benign, malignant) of an image by what a row says; None is unknown. A malignant one may have something benign
#: besides.
LABELS_OF: Mapping[str, tuple[int | None, int | None]] = {
    "normal": (0, 0),
    "benign": (1, 0),
    "malignant": (None, 1),
    "not malignant": (None, 0),
    UNKNOWN: (None, None),
}
_FINDINGS = (*LABELS, UNKNOWN, LEFT_OUT)
_ANY = "*"

#: What a data set says: level -> fact -> the values that it may have, None for any text.
Facts = Mapping[str, Mapping[str, Sequence[str] | None]]


class LabelRuleError(ValueError):
    """Label rules that are wrong, or facts that they do not cover; the message names file, row and remedy."""


@dataclass(frozen=True)
class LabelRule:
    """One row: what a finding, image, breast or exam counts as if all facts have one of the values."""

    when: tuple[tuple[str, tuple[str, ...]], ...]
    verdict: str

    def fits(self, facts: Mapping[str, str]) -> bool:
        """Whether these facts fit the row."""
        return all(any(_same(name, value, facts[name]) for value in values) for name, values in self.when)

    def __str__(self) -> str:
        parts = []
        for name, values in self.when:
            texts = [_yaml(value) for value in values]
            parts.append(f"{_yaml(name)}: {texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}")
        return "{" + ", ".join([*parts, f"is: {self.verdict}"]) + "}"


def rule(verdict: str, **when: Iterable[str]) -> LabelRule:
    """A row of a built-in table: ``rule("benign", birads=("2", "3"))``."""
    return LabelRule(tuple((name, tuple(values)) for name, values in when.items()), verdict)


class LabelRules:
    """The tables of a data set or study, and how often each row was used.

    Args:
        tables: level -> rows, the first that fits decides.
        otherwise: "error" or "unknown", of facts that no row fits.
        origin: where the tables come from, for messages.

    Attributes:
        counts: (level, number of the row from 0; -1: none fitted) -> how often.
    """

    def __init__(
        self, tables: Mapping[str, Sequence[LabelRule]], otherwise: str = "error", origin: str = "built in"
    ) -> None:
        self.tables = {level: tuple(tables[level]) for level in LABEL_LEVELS if level in tables}
        self.otherwise = otherwise
        self.origin = origin
        self.counts: Counter[tuple[str, int]] = Counter()

    @classmethod
    def from_file(
        cls, path: str | os.PathLike[str], known: Facts | None, built_in: LabelRules | None = None
    ) -> LabelRules:
        """Read rules from a YAML file.

        Args:
            path: the file.
            known: what the data set says; None: any fact at any level.
            built_in: of levels that the file does not have.

        Raises:
            FileNotFoundError: no such file.
            LabelRuleError: no such table: another level, fact or value than those ``known``, or another verdict.
        """
        content = read_yaml(path, error=LabelRuleError)
        if not isinstance(content, dict) or not set(content) & set(LABEL_LEVELS):
            raise LabelRuleError(
                f"{path}: must be a mapping with any of {', '.join(LABEL_LEVELS)}; see datasets/README.md"
            )
        if wrong := [key for key in content if key not in (*LABEL_LEVELS, "otherwise")]:
            raise LabelRuleError(f"{path}: {wrong[0]!r:.80} must be one of {', '.join(LABEL_LEVELS)}, otherwise")
        otherwise = content.get("otherwise", "error")
        if otherwise not in ("error", UNKNOWN):
            raise LabelRuleError(f"{path}: otherwise {otherwise!r:.80} must be error or {UNKNOWN}")
        tables: dict[str, Sequence[LabelRule]] = dict(built_in.tables) if built_in else {}
        for level in LABEL_LEVELS:
            if level in content:
                if known is not None and level not in known:
                    levels = ", ".join(known) or "nothing"
                    raise LabelRuleError(
                        f"{path}: {level}: the data set says nothing of this; it has facts of {levels}"
                    )
                tables[level] = _rows(content[level], None if known is None else known[level], level, str(path))
        return cls(tables, otherwise, os.path.basename(path))

    def facts_of(self, *levels: str) -> list[str]:
        """The facts that the tables of these levels look at, each once."""
        return list(dict.fromkeys(name for at in levels for row in self.tables.get(at, ()) for name, _ in row.when))

    def verdict(self, level: str, facts: Mapping[str, str], where: str) -> str:
        """What these facts count as, by the first row that fits; counted.

        Args:
            level: one of ``LABEL_LEVELS``.
            facts: all that the data set says at that level; "" is a missing value.
            where: file and line, for the message.

        Raises:
            LabelRuleError: no row fits, and ``otherwise`` is "error".
        """
        for number, row in enumerate(self.tables.get(level, ())):
            if row.fits(facts):
                self.counts[level, number] += 1
                return row.verdict
        self.counts[level, -1] += 1
        if self.otherwise == "error":
            said = ", ".join(f"{name} {facts[name]!r:.40}" for name in self.facts_of(level)) or "no row"
            raise LabelRuleError(
                f"{where}: no row of the label rules ({self.origin}) for this {level}: {said}; correct the value, or "
                f"give --labels FILE with a row for it or with 'otherwise: {UNKNOWN}'"
            )
        return UNKNOWN

    def image_labels(
        self, facts: Mapping[str, Mapping[str, str]], findings: Iterable[str], where: str, complete: bool = True
    ) -> dict[str, int | None] | None:
        """Labels of an image; None: it is left out.

        Args:
            facts: level -> what the data set says of the image, its breast and its exam.
            findings: verdicts of its findings.
            where: file and line, for messages.
            complete: the data set names every finding, so that a class without any is absent.

        Raises:
            LabelRuleError: see ``verdict``.
        """
        findings = list(findings)
        levels = [level for level in IMAGE_LEVELS if level in self.tables and level in facts]
        verdicts = {level: self.verdict(level, facts[level], where) for level in levels}
        if LEFT_OUT in findings or LEFT_OUT in verdicts.values():
            return None
        if not verdicts:
            absent = 0 if complete and UNKNOWN not in findings else None
            return {name: 1 if name in findings else absent for name in LABELS}
        labels: dict[str, int | None] = dict.fromkeys(LABELS)
        for level, verdict in verdicts.items():
            for name, value in zip(LABELS, LABELS_OF[verdict], strict=True):
                if labels[name] is None and not (level == "exam" and value == 1):
                    labels[name] = value
        return labels

    def format(self) -> str:
        """The tables as YAML, with the number of uses of each row as a comment."""
        rows = [(level, number, f"  - {row}") for level, rows in self.tables.items() for number, row in enumerate(rows)]
        width = max((len(text) for _, _, text in rows), default=0)
        lines = []
        for level in self.tables:
            lines.append(f"{level}:")
            lines += [f"{text:<{width}}  # {self.counts[level, number]}" for at, number, text in rows if at == level]
        unfit = sum(count for (_, number), count in self.counts.items() if number < 0)
        return "\n".join([*lines, f"otherwise: {self.otherwise:<{max(0, width - 11)}}  # {unfit}"])

    def to_dict(self) -> dict[str, Any]:
        """The tables for a manifest: their origin, and rows with their counts."""
        tables = {
            level: [
                {**{name: list(values) for name, values in row.when}, "is": row.verdict, "count": self.counts[level, n]}
                for n, row in enumerate(rows)
            ]
            for level, rows in self.tables.items()
        }
        return {"origin": self.origin, **tables, "otherwise": self.otherwise}


def _rows(content: Any, known: Mapping[str, Sequence[str] | None] | None, level: str, path: str) -> list[LabelRule]:
    if not isinstance(content, list) or not content:
        raise LabelRuleError(f"{path}: {level} must be a list of rows such as {{birads: [2, 3], is: benign}}")
    verdicts = _FINDINGS if level == "finding" else (*LABELS_OF, LEFT_OUT)
    rows = []
    for number, row in enumerate(content, start=1):
        where = f"{path}: {level}, row {number}"
        if not isinstance(row, dict) or "is" not in row or len(row) < 2:
            raise LabelRuleError(f"{where}: must name a fact and what it is, such as {{birads: [2, 3], is: benign}}")
        if row["is"] not in verdicts:
            raise LabelRuleError(f"{where}: is {row['is']!r:.80} must be one of {', '.join(verdicts)}")
        when = []
        for name, value in row.items():
            if name == "is":
                continue
            if not isinstance(name, str):
                raise LabelRuleError(f"{where}: fact {name!r:.80} must be a text; write it in quotes")
            if known is not None and name not in known:
                raise LabelRuleError(f"{where}: {name!r:.80} is none of the facts of this level: {', '.join(known)}")
            values = tuple(_value(v, f"{where}: {name}") for v in (value if isinstance(value, list) else [value]))
            if not values:
                raise LabelRuleError(f"{where}: {name} has no value; give one, or '{_ANY}' for any")
            allowed = known[name] if known else None
            strange = [
                v for v in values if v not in ("", _ANY) and allowed and not any(_same(name, v, a) for a in allowed)
            ]
            if allowed and strange:
                choice = ", ".join(filter(None, allowed))
                raise LabelRuleError(f"{where}: {name} {strange[0]!r:.80} must be one of {choice}, '' or '{_ANY}'")
            when.append((name, values))
        rows.append(LabelRule(tuple(when), row["is"]))
    return rows


def _value(value: Any, where: str) -> str:
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise LabelRuleError(
            f"{where} {value!r:.80} must be a text or a number; write words such as yes and no in quotes"
        )
    return str(value).strip()


def _same(name: str, wanted: str, value: str) -> bool:
    """Whether a fact has the value wanted."""
    if wanted == _ANY:
        return value != ""
    wanted, value = wanted.casefold(), value.strip().casefold()
    # A grade without a letter is the whole grade: 4 stands for 4A, 4B and 4C, too.
    if "birads" in name.casefold() and wanted.isdigit() and value[1:] in ("a", "b", "c"):
        value = value[0]
    return wanted == value


def _yaml(text: str) -> str:
    """A value as it may stand in a YAML list."""
    plain = text.replace(" ", "").replace("_", "").isalnum() and text == text.strip()
    words = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
    return (
        text if plain and text.casefold() not in words else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    )
