"""Screening numbers, decision curve and reclassification of one or two systems."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.metrics.bootstrap import (
    Comparison,
    Interval,
    Statistic,
    bootstrap,
    estimate,
    paired_comparison,
)
from mammo_d2.evaluation.metrics.bootstrap import percentile_interval as percentile
from mammo_d2.evaluation.metrics.clinical.net_benefit import NetBenefitStatistic
from mammo_d2.evaluation.metrics.clinical.reclassification import (
    NRI_WARNING,
    Reclassification,
    net_reclassification,
)
from mammo_d2.evaluation.metrics.clinical.screening_rates import ScreeningStatistic
from mammo_d2.evaluation.statistics.figures import plot_decision_curve
from mammo_d2.evaluation.statistics.scored_cases import Resampling, ScoredSystem, check_same_cases
from mammo_d2.evaluation.study.paper_tables import difference_cells, value_text, write_tables
from mammo_d2.evaluation.study.plots import PlotCurve

_GRID = 60  # points of the decision curve


@dataclass(frozen=True)
class ClinicalOptions:
    """``sensitivities`` of the screening numbers, ``thresholds`` of the net benefit, ``prevalence`` of the programme
    (None: that of the data), and ``cuts`` of the risk categories for the NRI of two systems (None: no NRI)."""

    sensitivities: tuple[float, ...] = (0.8, 0.9)
    thresholds: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1)
    prevalence: float | None = None
    cuts: tuple[float, ...] | None = None


@dataclass(frozen=True)
class ClinicalReport:
    """By system and key: values and intervals; differences to the first system; curves; the NRI."""

    names: Sequence[str]
    values: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[str, Comparison]
    curves: Sequence[PlotCurve]
    everybody: tuple[np.ndarray, np.ndarray]
    nri: Reclassification | None
    words: Sequence[str]


def clinical_report(
    systems: Sequence[ScoredSystem], resampling: Resampling, options: ClinicalOptions
) -> ClinicalReport:
    """Compute it for one system, or for two on the same cases.

    Raises:
        ResultsError: two systems with different cases.
        ValueError: numbers out of range, or scores that are no probabilities.
    """
    check_same_cases(systems)
    if options.cuts is not None and len(systems) != 2:
        raise ValueError("--cuts: reclassification compares two systems; name two files of scores")
    grid = np.linspace(min(options.thresholds), max(options.thresholds), _GRID)
    statistics: dict[str, Statistic] = {}
    for n, system in enumerate(systems):
        c = system.cases
        statistics[f"{n}s"] = ScreeningStatistic(
            c.truth, c.scores, c.patient, options.sensitivities, options.prevalence
        )
        statistics[f"{n}n"] = NetBenefitStatistic(c.truth, c.scores, c.patient, options.thresholds, options.prevalence)
        statistics[f"{n}c"] = NetBenefitStatistic(c.truth, c.scores, c.patient, grid.tolist(), options.prevalence)
    plan = resampling.plan
    drawn = bootstrap(statistics, resampling.patients, plan, resampling.strata)
    found = {name: estimate(statistic, resampling.patients) for name, statistic in statistics.items()}
    values: dict[str, dict[str, float]] = {}
    intervals: dict[str, dict[str, Interval]] = {}
    replicates: list[dict[str, np.ndarray]] = []
    curves = []
    for n, system in enumerate(systems):
        keys = [*statistics[f"{n}s"].keys, *statistics[f"{n}n"].keys]
        rows = np.concatenate([drawn[f"{n}s"], drawn[f"{n}n"]])
        numbers = np.concatenate([found[f"{n}s"], found[f"{n}n"]])
        values[system.name] = {key: float(v) for key, v in zip(keys, numbers, strict=True)}
        replicates.append(dict(zip(keys, rows, strict=True)))
        intervals[system.name] = {key: percentile(row, plan.confidence) for key, row in replicates[-1].items()}
        bands = [percentile(row, plan.confidence) for row in drawn[f"{n}c"][:_GRID]]
        low, high = np.array([b.low for b in bands]), np.array([b.high for b in bands])
        has_band = plan.replicates > 0
        curves.append(
            PlotCurve(system.name, grid, found[f"{n}c"][:_GRID], *((grid, low, high) if has_band else (None,) * 3))
        )
    differences = {}
    nri = None
    if len(systems) == 2:
        a, b = systems
        differences = {
            key: paired_comparison(
                values[a.name][key], values[b.name][key], replicates[0][key], replicates[1][key], plan.confidence
            )
            for key in values[a.name]
            if not key.startswith("recall_all")
        }
        if options.cuts is not None:
            nri = net_reclassification(a.cases.truth, a.cases.scores, b.cases.scores, options.cuts, plan.confidence)
    prevalence = "of the data" if options.prevalence is None else f"{options.prevalence:g}"
    words = [f"prevalence: {prevalence}; thresholds chosen anew in every replicate; {plan}"]
    words.append("net benefit reads the scores as probabilities at this prevalence: look at their calibration first")
    everybody = (grid, found["0c"][_GRID:])
    return ClinicalReport(
        [system.name for system in systems], values, intervals, differences, curves, everybody, nri, words
    )


def clinical_table(report: ClinicalReport) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    header = ["", *report.names]
    if report.differences:
        header += [f"{report.names[1]} - {report.names[0]}", "p"]
    rows = []
    for key in report.values[report.names[0]]:
        row = [key]
        for name in report.names:
            interval = report.intervals[name][key]
            row.append(value_text(report.values[name][key], interval.low, interval.high))
        rows.append(row + (difference_cells(report.differences.get(key)) if report.differences else []))
    return header, rows


def _nri_lines(nri: Reclassification) -> list[str]:
    return [
        f"NRI {value_text(nri.nri, nri.low, nri.high)}: cases {nri.events:+.3f}, non-cases {nri.nonevents:+.3f}",
        "cases by category (rows: first system, columns: second): " + str(nri.table_events.tolist()),
        "non-cases: " + str(nri.table_nonevents.tolist()),
        f"WARNING: {NRI_WARNING}",
    ]


def clinical_text(report: ClinicalReport) -> str:
    """The tables for the console."""
    header, rows = clinical_table(report)
    lines = [*report.words, "", tabulate(rows, header, disable_numparse=True)]
    return "\n".join(lines + (["", *_nri_lines(report.nri)] if report.nri is not None else []))


def write_clinical(report: ClinicalReport, folder: str | os.PathLike, formats: Sequence[str]) -> list[Path]:
    """Write clinical.json, .md, .tex, and the figure decision_curve in each format."""
    folder = Path(folder)
    nri = None
    if report.nri is not None:
        tables = {name: getattr(report.nri, name).tolist() for name in ("table_events", "table_nonevents")}
        nri = {**asdict(report.nri), **tables, "warning": NRI_WARNING}
    content = {
        "options": list(report.words),
        "systems": {
            name: {key: {"value": value, **asdict(report.intervals[name][key])} for key, value in values.items()}
            for name, values in report.values.items()
        },
        "differences": {key: asdict(d) for key, d in report.differences.items()},
        "nri": nri,
    }
    paths = [write_json(folder / "clinical.json", content, indent=2, nan_as_null=True)]
    notes = [*report.words, *([] if report.nri is None else _nri_lines(report.nri))]
    paths += write_tables(folder, "clinical", *clinical_table(report), notes)
    return paths + [
        plot_decision_curve(report.curves, report.everybody, folder / f"decision_curve.{kind}") for kind in formats
    ]
