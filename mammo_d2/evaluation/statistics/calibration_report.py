"""Calibration of a system's scores, as they are and rescaled by a fit on other cases."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.metrics.bootstrap import Interval, bootstrap, estimate, percentile_interval
from mammo_d2.evaluation.metrics.calibration.calibration_error import CALIBRATION_KEYS, CalibrationStatistic
from mammo_d2.evaluation.metrics.calibration.recalibration import Recalibration
from mammo_d2.evaluation.metrics.calibration.reliability import ReliabilityDiagram, reliability_diagram
from mammo_d2.evaluation.metrics.scores.levels import LevelCases
from mammo_d2.evaluation.statistics.figures import plot_reliability
from mammo_d2.evaluation.statistics.scored_cases import Resampling
from mammo_d2.evaluation.study.paper_tables import value_text, write_tables

#: Resampling adds scatter to the rates of the bins, so that replicates of these lie above the estimate.
WITHOUT_INTERVAL = ("ece", "ece_debiased")
_SHOWN_BINS, _CASES_OF_A_POINT = 10, 10
_WITHOUT = Interval(float("nan"), float("nan"))


@dataclass(frozen=True)
class CalibrationReport:
    """By name of the scores ("as given", "platt"): values and intervals by key, and the diagram."""

    values: Mapping[str, Mapping[str, float]]
    intervals: Mapping[str, Mapping[str, Interval]]
    diagrams: Mapping[str, ReliabilityDiagram]
    recalibration: Recalibration | None
    words: Sequence[str]


def calibration_report(
    cases: LevelCases, resampling: Resampling, recalibration: Recalibration | None = None, bins: int = 15
) -> CalibrationReport:
    """Compute it.

    Args:
        cases: with probabilities as scores.
        resampling: of their ground truth.
        recalibration: a scaling that was fitted on other cases.
        bins: of the calibration error; the diagram has at most 10, of at least 10 cases.
    """
    scores = {"as given": cases.scores}
    if recalibration is not None:
        scores[recalibration.kind] = recalibration.apply(cases.scores)
    statistics = {name: CalibrationStatistic(cases.truth, p, cases.patient, bins) for name, p in scores.items()}
    plan = resampling.plan
    drawn = bootstrap(statistics, resampling.patients, plan, resampling.strata)
    values, intervals, diagrams = {}, {}, {}
    shown = min(bins, _SHOWN_BINS, max(len(cases.truth) // _CASES_OF_A_POINT, 2))
    for name, p in scores.items():
        found = estimate(statistics[name], resampling.patients)
        values[name] = dict(zip(CALIBRATION_KEYS, map(float, found), strict=True))
        intervals[name] = {
            key: _WITHOUT if key in WITHOUT_INTERVAL else percentile_interval(row, plan.confidence)
            for key, row in zip(CALIBRATION_KEYS, drawn[name], strict=True)
        }
        diagrams[name] = reliability_diagram(cases.truth, p, cases.patient, shown, plan.confidence)
    words = [f"calibration error over at most {bins} bins of equal mass; slope and intercept on the logit; {plan}"]
    if recalibration is not None:
        r = recalibration
        words.append(f"{r.kind}: sigmoid({r.slope:.4g} logit(p) {r.intercept:+.4g}), fitted on other cases")
    return CalibrationReport(values, intervals, diagrams, recalibration, words)


def calibration_table(report: CalibrationReport) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    rows = []
    for key in CALIBRATION_KEYS:
        row = [key]
        for name, values in report.values.items():
            interval = report.intervals[name][key]
            row.append(value_text(values[key], interval.low, interval.high))
        rows.append(row)
    return ["", *report.values], rows


def calibration_text(report: CalibrationReport) -> str:
    """The table for the console."""
    header, rows = calibration_table(report)
    return "\n".join([*report.words, "", tabulate(rows, header, disable_numparse=True)])


def write_calibration(report: CalibrationReport, folder: str | os.PathLike, formats: Sequence[str]) -> list[Path]:
    """Write calibration.json, .md, .tex, and the figure reliability in each format."""
    folder = Path(folder)
    content = {
        "options": list(report.words),
        "recalibration": None if report.recalibration is None else report.recalibration.as_dict(),
        "scores": {
            name: {
                **{key: {"value": value, **asdict(report.intervals[name][key])} for key, value in values.items()},
                "diagram": {key: np.asarray(v).tolist() for key, v in vars(report.diagrams[name]).items()},
            }
            for name, values in report.values.items()
        },
    }
    paths = [write_json(folder / "calibration.json", content, indent=2, nan_as_null=True)]
    paths += write_tables(folder, "calibration", *calibration_table(report), report.words)
    return paths + [plot_reliability(report.diagrams, folder / f"reliability.{kind}") for kind in formats]
