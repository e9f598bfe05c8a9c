"""What EMBED's clinical table says of a breast: its findings, with assessment and pathology.

The table has a row per finding, and several for one with several specimens. A row holds for its ``side``, for both
breasts if that is B or empty; its pathology for ``bside`` alone where that is given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mammo_d2.data.converters.converter import ConverterError

CLINICAL_COLUMNS = ("empi_anon", "acc_anon", "numfind", "side", "asses", "path_severity", "tissueden")
FURTHER_CLINICAL_COLUMNS = ("bside", "desc", "implanfind", "massshape", "calcfind")
#: Severity of the pathology: 0 invasive cancer, 1 non-invasive, 2 high risk, 3 borderline, 4 benign, 5 normal tissue,
#: 6 a cancer that is not of the breast.
SEVERITIES = ("0", "1", "2", "3", "4", "5", "6")
_GRADES = {"A": "0", "N": "1", "B": "2", "P": "3", "S": "4", "M": "5", "K": "6", "X": ""}
# From harmless to worst; an incomplete assessment lies between probably benign and suspicious.
_BY_GRADE = ("", "1", "2", "3", "0", "4", "5", "6")
_BY_SEVERITY = ("", "5", "4", "3", "2", "6", "1", "0")
# Codes of massshape, which has more than masses, by the set's legend. Any code of calcfind is a calcification.
_SHAPES = {
    **dict.fromkeys("GROX", "mass"), **dict.fromkeys("QA", "architectural distortion"),
    **dict.fromkeys("BFSV", "asymmetry"), **dict.fromkeys("NY", "lymph node"), "T": "dilated duct",
}  # fmt: skip
# Assessments that a biopsy has to settle.
_OPEN = ("0", "3", "4", "5")


@dataclass(frozen=True)
class EmbedFinding:
    """One finding of a breast: BI-RADS grade and severity of the pathology, "" where there is none; what it is."""

    birads: str
    pathology: str
    kinds: tuple[str, ...] = ()

    @property
    def facts(self) -> dict[str, str]:
        return {"birads": self.birads, "pathology": self.pathology}


@dataclass(frozen=True)
class EmbedBreast:
    """One breast in one exam."""

    findings: tuple[EmbedFinding, ...]
    density: str
    description: str
    implant: bool

    @property
    def facts(self) -> dict[str, str]:
        """The worst of its findings, and whether one of them was not settled by a biopsy."""
        worst = max((f.birads for f in self.findings), key=_BY_GRADE.index, default="")
        pathology = max((f.pathology for f in self.findings), key=_BY_SEVERITY.index, default="")
        unsettled = any(f.birads in _OPEN and not f.pathology for f in self.findings)
        return {"birads": worst, "pathology": pathology, "unsettled": "yes" if unsettled else "no"}

    @property
    def notable(self) -> list[EmbedFinding]:
        """Its findings without those that say that there is nothing."""
        return [f for f in self.findings if f.pathology or f.birads != "1"]

    @property
    def kinds(self) -> tuple[str, ...]:
        """What its notable findings are, if they are all the same; else empty."""
        kinds = {finding.kinds for finding in self.notable}
        return kinds.pop() if len(kinds) == 1 else ()


def breasts_of(rows: Iterable[Mapping[str, str]], path: object) -> dict[tuple[str, str, str], EmbedBreast]:
    """(patient, exam, "L" or "R") -> what the table says of it.

    Args:
        rows: of the clinical table.
        path: of the table, for messages.

    Raises:
        ConverterError: an assessment, side or severity that the set's description does not have.
    """
    findings: dict[tuple[str, str, str], dict[str, list[EmbedFinding]]] = defaultdict(lambda: defaultdict(list))
    further: dict[tuple[str, str, str], Mapping[str, str]] = {}
    for row in rows:
        where = f"{path}, line {row['#']}"
        grade = _grade(row["asses"], where)
        severity = whole(row["path_severity"])
        if severity not in ("", *SEVERITIES):
            raise ConverterError(f"{where}: path_severity {row['path_severity']!r:.40} must be 0 to 6, or empty")
        for side in _sides(row["side"], "side", where):
            own = severity if not row.get("bside") or side in _sides(row["bside"], "bside", where) else ""
            key = whole(row["empi_anon"]), whole(row["acc_anon"]), side
            findings[key][whole(row["numfind"])].append(EmbedFinding(grade, own, _kinds(row)))
            further.setdefault(key, row)
    return {key: _breast(numbers, further[key]) for key, numbers in findings.items()}


def _breast(numbers: Mapping[str, list[EmbedFinding]], row: Mapping[str, str]) -> EmbedBreast:
    findings = tuple(
        EmbedFinding(
            max((f.birads for f in rows), key=_BY_GRADE.index),
            max((f.pathology for f in rows), key=_BY_SEVERITY.index),
            tuple(sorted({kind for f in rows for kind in f.kinds})),
        )
        for rows in numbers.values()
    )
    density = whole(row["tissueden"])
    # 5 is a male breast.
    known = density if density in ("1", "2", "3", "4") else ""
    return EmbedBreast(findings, known, row.get("desc", ""), whole(row.get("implanfind", "")) == "1")


def _kinds(row: Mapping[str, str]) -> tuple[str, ...]:
    """What a row's finding is; a mass with calcifications is both."""
    shape = _SHAPES.get(row.get("massshape", "").upper(), "")
    calcified = whole(row.get("calcfind", "")) != ""
    return tuple(sorted(filter(None, (shape, "calcification" if calcified else ""))))


def whole(text: str) -> str:
    """ "1.0" -> "1" and "nan" -> "": tables with missing values write whole numbers so."""
    return "" if text.lower() == "nan" else text.removesuffix(".0")


def _grade(text: str, where: str) -> str:
    letter = "" if text.lower() == "nan" else text.upper()
    if letter and letter not in _GRADES:
        raise ConverterError(f"{where}: asses {text!r:.40} must be one of {', '.join(_GRADES)}, or empty")
    return _GRADES.get(letter, "")


def _sides(text: str, column: str, where: str) -> str:
    """ "L", "R", or "LR" for both."""
    side = "" if text.lower() == "nan" else text.upper()
    if side not in ("L", "R", "B", ""):
        raise ConverterError(f"{where}: {column} {text!r:.40} must be L, R or B, or empty")
    return side if side in ("L", "R") else "LR"
