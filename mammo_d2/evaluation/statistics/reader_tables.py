"""Reader studies as CSV files: ROC ratings, or free-response marks with a table of the cases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mammo_d2.core.csv_files import read_csv
from mammo_d2.evaluation.files.field_checks import parse_number
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.readers.reader_figures import ReaderMarks, equal_weights, roc_marks

ROC_COLUMNS = ("treatment", "reader", "case", "truth", "rating")
MARK_COLUMNS = ("treatment", "reader", "case", "lesion", "rating")
CASE_COLUMNS = ("case", "lesions")

_Rows = list[tuple[int, dict[str, str]]]


def read_reader_study(path: str | os.PathLike, cases: str | os.PathLike | None = None) -> ReaderMarks:
    """Read a factorial reader study.

    Args:
        path: CSV. ROC: columns treatment, reader, case, truth (0 or 1), rating, a row for every reading. Free response:
            treatment, reader, case, lesion (1, 2, ... in the case's order; 0 or empty: a false mark), rating, a row for
            every mark. Without a column treatment there is one treatment.
        cases: CSV of free-response studies: case and lesions (their number, 0 for a normal case), one row per case.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: missing columns, a rating that is no number, a reading that is missing or there twice, truth that
            differs between readings, a case or lesion that the table of cases does not have. The message names
            the line.
    """
    path = Path(path)
    header, rows = read_csv(path, error=ResultsError)
    if cases is None:
        _require(path, header, ROC_COLUMNS[1:], "; free-response marks (column lesion) need the table of cases")
        return _read_ratings(path, rows)
    _require(path, header, MARK_COLUMNS[1:], "")
    return _read_marks(path, rows, _read_cases(Path(cases)))


def _require(path: Path, header: Sequence[str], columns: Sequence[str], hint: str) -> None:
    if missing := [name for name in columns if name not in header]:
        raise ResultsError(
            f"{path}: line 1: no column {missing[0]!r} ({', '.join(header) or 'the file is empty'}); it must have "
            f"{', '.join(columns)} and may have treatment{hint}"
        )


def _names(rows: _Rows, column: str) -> list[str]:
    """Names of a column in order of appearance; one name "" without the column."""
    return list(dict.fromkeys(line.get(column, "").strip() for _, line in rows))


def _number(text: str, where: str) -> float:
    value = parse_number(text)
    if value is None or not np.isfinite(value):
        raise ResultsError(f"{where}: rating {text!r} must be a finite number; leave out rows without a mark")
    return value


def _read_ratings(path: Path, rows: _Rows) -> ReaderMarks:
    treatments, readers, cases = (_names(rows, name) for name in ("treatment", "reader", "case"))
    ratings = np.full((len(treatments), len(readers), len(cases)), np.nan)
    place = {name: {value: n for n, value in enumerate(values)} for name, values in
             (("treatment", treatments), ("reader", readers), ("case", cases))}  # fmt: skip
    truth: dict[int, tuple[int, str]] = {}
    for number, line in rows:
        where = f"{path}: line {number}"
        t, r, k = (place[name][line.get(name, "").strip()] for name in ("treatment", "reader", "case"))
        stated = line["truth"].strip()
        if stated not in ("0", "1"):
            raise ResultsError(f"{where}: truth {stated!r} must be 1 (with the disease) or 0")
        first, other = truth.setdefault(k, (number, stated))
        if other != stated:
            raise ResultsError(f"{where}: case {cases[k]!r} has truth {stated}, but {other} on line {first}")
        if not np.isnan(ratings[t, r, k]):
            raise ResultsError(f"{where}: {_reading(treatments[t], readers[r], cases[k])} is there twice; remove one")
        ratings[t, r, k] = _number(line["rating"], where)
    if np.isnan(ratings).any():
        t, r, k = np.argwhere(np.isnan(ratings))[0]
        raise ResultsError(
            f"{path}: no rating of {_reading(treatments[t], readers[r], cases[k])}; every reader must read every case "
            "under every treatment"
        )
    _check_both([int(stated) for _, stated in truth.values()], path)
    abnormal = np.array([truth[k][1] == "1" for k in range(len(cases))])
    return roc_marks(treatments, readers, cases, abnormal, ratings)


def _reading(treatment: str, reader: str, case: str) -> str:
    named = f"reader {reader!r}, case {case!r}"
    return f"treatment {treatment!r}, {named}" if treatment else named


def _check_both(lesions: Sequence[int], path: Path) -> None:
    positive = sum(number > 0 for number in lesions)
    if positive < 2 or len(lesions) - positive < 2:
        raise ResultsError(
            f"{path}: {positive} case(s) with and {len(lesions) - positive} without a lesion; at least 2 of each are "
            "needed"
        )


def _read_cases(path: Path) -> dict[str, int]:
    header, rows = read_csv(path, error=ResultsError)
    if missing := [name for name in CASE_COLUMNS if name not in header]:
        raise ResultsError(f"{path}: line 1: no column {missing[0]!r}; it must have {', '.join(CASE_COLUMNS)}")
    counts: dict[str, int] = {}
    for number, line in rows:
        case, text = line["case"].strip(), line["lesions"].strip()
        if case in counts:
            raise ResultsError(f"{path}: line {number}: case {case!r} is there twice; remove one")
        if not text.isdecimal():
            raise ResultsError(f"{path}: line {number}: lesions {text!r} must be a whole number, 0 for a normal case")
        counts[case] = int(text)
    _check_both(list(counts.values()), path)
    return counts


def _read_marks(path: Path, rows: _Rows, counts: Mapping[str, int]) -> ReaderMarks:
    treatments, readers = _names(rows, "treatment"), _names(rows, "reader")
    cases = list(counts)
    case_of = {case: number for number, case in enumerate(cases)}
    lesion_case = np.repeat(np.arange(len(cases)), list(counts.values()))
    first = np.cumsum([0, *counts.values()])
    false = np.full((len(treatments), len(readers), len(cases)), -np.inf)
    hits = np.full((len(treatments), len(readers), len(lesion_case)), -np.inf)
    for number, line in rows:
        where = f"{path}: line {number}"
        t, r = treatments.index(line.get("treatment", "").strip()), readers.index(line["reader"].strip())
        name, lesion = line["case"].strip(), line["lesion"].strip() or "0"
        if name not in case_of:
            raise ResultsError(f"{where}: case {name!r} is not in the table of cases")
        if not lesion.isdecimal() or int(lesion) > counts[name]:
            raise ResultsError(
                f"{where}: lesion {lesion!r} of case {name!r}, which has {counts[name]}; lesions are numbered from 1, "
                "and 0 is a false mark"
            )
        case, rating = case_of[name], _number(line["rating"], where)
        if lesion == "0":
            false[t, r, case] = max(false[t, r, case], rating)
        else:
            row = int(first[case]) + int(lesion) - 1
            hits[t, r, row] = max(hits[t, r, row], rating)
    return ReaderMarks(
        tuple(treatments), tuple(readers), tuple(cases), false, hits, lesion_case, equal_weights(lesion_case)
    )
