"""Tables and files of a reader study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.metrics.readers.multi_reader import ReaderStudyResult
from mammo_d2.evaluation.metrics.readers.reader_figures import ReaderMarks
from mammo_d2.evaluation.metrics.readers.standalone import StandaloneResult
from mammo_d2.evaluation.study.paper_tables import p_text, value_text, write_tables
from mammo_d2.evaluation.study.plots import ForestRow, plot_forest

_METHOD_NAMES = {"or": "Obuchowski & Rockette", "dbm": "Dorfman, Berbaum & Metz"}


def figure_table(marks: ReaderMarks, result: ReaderStudyResult) -> tuple[list[str], list[list[str]]]:
    """Figures of merit by reader and treatment, and their means."""
    header = ["reader", *(name or result.figure for name in marks.treatments)]
    rows = [[reader, *(f"{v:.4f}" for v in result.values[:, r])] for r, reader in enumerate(marks.readers)]
    return header, [*rows, ["mean", *(f"{v:.4f}" for v in result.values.mean(axis=1))]]


def analysis_table(marks: ReaderMarks, result: ReaderStudyResult) -> tuple[list[str], list[list[str]]]:
    """The three analyses: overall test and pairwise differences; single means where there is one treatment."""
    rows = []
    for analysis in result.analyses:
        if len(marks.treatments) > 1:
            test = "--" if np.isnan(analysis.p) else f"F({analysis.ndf:g}, {_df(analysis.ddf)}) = {analysis.f:.3f}"
            rows.append([analysis.name, "all treatments equal", test, p_text(analysis.p)])
        for d in analysis.differences:
            pair = f"{marks.treatments[d.first]} - {marks.treatments[d.second]}"
            rows.append([analysis.name, pair, value_text(d.difference, d.low, d.high, 4), p_text(d.p)])
        for mean in analysis.means:
            name = marks.treatments[mean.treatment]
            rows.append([analysis.name, f"mean {name}".strip(), value_text(mean.value, mean.low, mean.high, 4), ""])
    return ["analysis", "of", f"{result.figure} ({_METHOD_NAMES[result.method]})", "p"], rows


def standalone_table(result: StandaloneResult) -> tuple[list[str], list[list[str]]]:
    """The system against the mean of the readers."""
    rows = [
        [name, value_text(t.difference, t.low, t.high, 4), f"t({_df(t.df)}) = {t.t:.3f}", p_text(t.p)]
        for name, t in (
            ("random readers, random cases", result.random_cases),
            ("random readers, fixed cases", result.fixed_cases),
        )
    ]
    return ["analysis", "mean of readers - system", "test", "p"], rows


def _df(value: float) -> str:
    return "inf" if np.isinf(value) else f"{value:.2f}".rstrip("0").rstrip(".")


def reader_text(marks: ReaderMarks, result: ReaderStudyResult, standalone: StandaloneResult | None, system: str) -> str:
    """The tables for the console."""
    lines = [study_words(marks), ""]
    for header, rows in _tables(marks, result, standalone).values():
        lines += [tabulate(rows, header, disable_numparse=True), ""]
    if standalone is not None:
        lines.append(f"system: {system}, {standalone.system:.4f}; readers' mean {standalone.readers.mean():.4f}")
    return "\n".join(lines).rstrip()


def study_words(marks: ReaderMarks) -> str:
    """Size of the study."""
    abnormal = int(marks.abnormal.sum())
    return (
        f"{len(marks.treatments)} treatment(s), {len(marks.readers)} reader(s), {len(marks.cases)} cases: "
        f"{len(marks.cases) - abnormal} normal, {abnormal} abnormal with {len(marks.lesion_case)} lesions"
    )


def _tables(
    marks: ReaderMarks, result: ReaderStudyResult, standalone: StandaloneResult | None
) -> dict[str, tuple[list[str], list[list[str]]]]:
    tables = {"reader_figures": figure_table(marks, result)}
    if standalone is None:
        return {**tables, "reader_tests": analysis_table(marks, result)}
    return {**tables, "standalone": standalone_table(standalone)}


def write_readers(
    marks: ReaderMarks,
    result: ReaderStudyResult,
    standalone: StandaloneResult | None,
    folder: str | os.PathLike,
    formats: Sequence[str],
) -> list[Path]:
    """Write readers.json, the tables as .md and .tex, and a forest plot of the differences in each format."""
    folder = Path(folder)
    content = {
        "study": study_words(marks),
        "treatments": marks.treatments,
        "readers": marks.readers,
        "figure": result.figure,
        "method": result.method,
        "values": result.values.tolist(),
        "mean_squares": result.mean_squares,
        "covariances": asdict(result.covariances),
        "analyses": [asdict(analysis) for analysis in result.analyses],
        "standalone": None
        if standalone is None
        else {**asdict(standalone), "readers": np.asarray(standalone.readers).tolist()},
    }
    paths = [write_json(folder / "readers.json", content, indent=2, nan_as_null=True)]
    for name, (header, rows) in _tables(marks, result, standalone).items():
        paths += write_tables(folder, name, header, rows, [study_words(marks)])
    forest = [
        ForestRow(
            f"{marks.treatments[d.first]} - {marks.treatments[d.second]}, {analysis.name}",
            d.difference, d.low, d.high, f"{d.difference:+.3f}  p = {p_text(d.p)}",
        )
        for analysis in result.analyses
        for d in analysis.differences
    ]  # fmt: skip
    if forest:
        label = f"difference in {result.figure}"
        paths += [plot_forest(forest, folder / f"readers.{kind}", "", label) for kind in formats]
    return paths
