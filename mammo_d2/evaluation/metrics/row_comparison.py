"""Rows of a table compared on the same resampled patients; a row is one training, or several that are averaged.

Naming: ``M`` patients, ``B`` replicates, ``U`` units of a row. A unit is what a metric is computed on: the predictions
of one training on all test patients (one unit per seed), or of all folds taken together. The value of a row is the mean
over its units. In every replicate all units of all rows see the same patients, so that differences are paired.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mammo_d2.evaluation.metrics.bootstrap import (
    BootstrapPlan,
    Comparison,
    Interval,
    Statistic,
    bootstrap,
    estimate,
    paired_comparison,
    percentile_interval,
)
from mammo_d2.evaluation.metrics.comparison.sample_size import patients_needed


@dataclass(frozen=True)
class RowMetric:
    """One metric of a row.

    Attributes:
        value: mean over the units.
        units: (U,) of each unit, without those in which it is undefined.
        interval: of the value, over patients; it does not cover the variation between trainings.
        replicates: (B,) of the value.
    """

    value: float
    units: np.ndarray
    interval: Interval
    replicates: np.ndarray = field(repr=False)

    @property
    def spread(self) -> float:
        """Sample standard deviation over the units; NaN of a single one."""
        return float(np.std(self.units, ddof=1)) if len(self.units) > 1 else float("nan")


@dataclass(frozen=True)
class RowDifference:
    """One metric of a row minus that of the reference.

    Attributes:
        comparison: difference, interval and p value, see ``paired_comparison``.
        error: standard error over patients, the standard deviation of the replicates.
        patients_needed: see ``patients_needed``; None where the interval excludes 0, infinite where there is no
            difference.
    """

    comparison: Comparison
    error: float
    patients_needed: float | None


@dataclass(frozen=True)
class ComparedRows:
    """Metrics of all rows, and their differences to one of them.

    Attributes:
        patients: M.
        reference: name of the row that the others are compared with.
        metrics: by row and metric ("task/key").
        differences: likewise, of the other rows, as far as both have the metric.
    """

    patients: int
    reference: str
    metrics: Mapping[str, Mapping[str, RowMetric]]
    differences: Mapping[str, Mapping[str, RowDifference]]


def compare_rows(
    rows: Mapping[str, Sequence[Mapping[str, Statistic]]],
    patients: int,
    plan: BootstrapPlan,
    strata: np.ndarray | None = None,
    reference: str = "",
) -> ComparedRows:
    """Bootstrap all rows on the same draws.

    Args:
        rows: units by name of the row; a unit has statistics by task. All number the patients alike.
        patients: M.
        plan: how to resample.
        strata: (M,) stratum of each patient.
        reference: row to compare with; empty: the first.

    Raises:
        ValueError: no such row.
    """
    reference = reference or next(iter(rows), "")
    if reference not in rows:
        raise ValueError(f"there is no row {reference!r} to compare with; the rows are {', '.join(rows)}")
    named = {
        (name, number, task): statistic
        for name, units in rows.items()
        for number, unit in enumerate(units)
        for task, statistic in unit.items()
    }
    keys = {repr(key): statistic for key, statistic in named.items()}
    drawn = bootstrap(keys, patients, plan, strata)
    found: dict[str, dict[str, list[tuple[float, np.ndarray]]]] = {name: {} for name in rows}
    for (name, number, task), statistic in named.items():
        values = estimate(statistic, patients)
        for key, value, replicates in zip(statistic.keys, values, drawn[repr((name, number, task))], strict=True):
            found[name].setdefault(f"{task}/{key}", []).append((float(value), replicates))
    metrics = {
        name: {metric: _row_metric(units, plan.confidence) for metric, units in of_row.items()}
        for name, of_row in found.items()
    }
    differences = {
        name: {
            metric: _difference(metrics[reference][metric], row_metric, patients, plan.confidence)
            for metric, row_metric in of_row.items()
            if metric in metrics[reference]
        }
        for name, of_row in metrics.items()
        if name != reference
    }
    return ComparedRows(patients, reference, metrics, differences)


def _row_metric(units: Sequence[tuple[float, np.ndarray]], confidence: float) -> RowMetric:
    """Mean over the units in which the metric is defined."""
    defined = [unit for unit in units if not math.isnan(unit[0])] or list(units)
    values = np.array([value for value, _ in defined])
    replicates = np.mean([drawn for _, drawn in defined], axis=0)
    return RowMetric(
        float(values.mean()), values[~np.isnan(values)], percentile_interval(replicates, confidence), replicates
    )


def _difference(reference: RowMetric, row: RowMetric, patients: int, confidence: float) -> RowDifference:
    comparison = paired_comparison(reference.value, row.value, reference.replicates, row.replicates, confidence)
    drawn = row.replicates - reference.replicates
    drawn = drawn[~np.isnan(drawn)]
    error = float(np.std(drawn, ddof=1)) if len(drawn) > 1 else float("nan")
    told = comparison.low > 0 or comparison.high < 0
    return RowDifference(comparison, error, None if told else patients_needed(patients, error, comparison.difference))
