"""Tables of rows compared on the same patients: values and differences with intervals, and patients needed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.data.format.catalog import category_names
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan, Statistic
from mammo_d2.evaluation.metrics.row_comparison import ComparedRows, RowDifference, RowMetric, compare_rows
from mammo_d2.experiments.comparison.predictions import Predictions, check_same_images, part_of_fold
from mammo_d2.experiments.comparison.row_statistics import (
    ANY,
    RATES,
    RowRule,
    default_class,
    row_statistics,
    rule_from_config,
)
from mammo_d2.framework import CfgNode

#: The bootstrap of all tables.
PLAN = BootstrapPlan()


@dataclass(frozen=True)
class TableOptions:
    """What the tables of a comparison show.

    Attributes:
        reference: row that the others are compared with; empty: the first.
        class_name: class that is judged; empty: "malignant" if the first row knows it, else its first class.
        rates: false positives per image at which sensitivities are given.
        only_tables: make the tables of runs that are finished, and train nothing. Each run's own ``config.yaml``
            counts; the config that was given is not read.
        fold_means: with folds, the mean over the folds in place of all folds together: scores of different models are
            then never compared with each other, but each value is of few patients.
    """

    reference: str = ""
    class_name: str = ""
    rates: tuple[float, ...] = RATES
    only_tables: bool = False
    fold_means: bool = False

    def rules(self, configs: Mapping[str, CfgNode]) -> dict[str, RowRule]:
        """How the rows are judged: with the reference's TEST.FROC, each with its own TEST.IMAGE.AGGREGATE.

        Args:
            configs: by name of the row.

        Raises:
            ValueError: no such reference, or a class that a row does not know.
        """
        reference = self.reference or next(iter(configs))
        if reference not in configs:
            raise ValueError(f"--reference {reference!r} is none of the rows: {', '.join(configs)}")
        class_name = self.class_name or default_class(category_names(configs[reference]))
        for name, cfg in configs.items():
            known = category_names(cfg)
            known += [ANY] if len(known) > 1 else []
            if class_name not in known:
                raise ValueError(f"--class {class_name!r}: row {name!r} knows {', '.join(known)}")
        first = rule_from_config(configs[reference], class_name, self.rates)
        return {name: replace(first, aggregate=cfg.TEST.IMAGE.AGGREGATE) for name, cfg in configs.items()}


def compare_predictions(
    rows: Mapping[str, Sequence[Predictions]],
    rules: Mapping[str, RowRule],
    reference: str = "",
    plan: BootstrapPlan = PLAN,
    fold_means: bool = False,
) -> ComparedRows | None:
    """Compare rows by their predictions, all on the same images.

    Args:
        rows: units of each row (see ``row_comparison``): one per seed, folds joined.
        rules: how each row is judged.
        reference: row to compare with; empty: the first.
        plan: how to resample.
        fold_means: every fold is a unit by itself.

    Returns:
        None where no row has predictions.

    Raises:
        ValueError: no such row.
        ResultsError: rows about different images.
    """
    everything = [one for units in rows.values() for one in units]
    if not everything:
        return None
    check_same_images(everything)
    first = everything[0]
    folds = range(int(first.fold.max(initial=0)) + 1)
    if fold_means and len(folds) > 1:
        rows = {name: [part_of_fold(one, fold) for one in units for fold in folds] for name, units in rows.items()}
    statistics = {
        name: [
            {task: _OfPatients(statistic, one.patients) for task, statistic in row_statistics(one, rules[name]).items()}
            for one in units
        ]
        for name, units in rows.items()
    }
    return compare_rows(statistics, first.patients, plan, first.strata(), reference)


class _OfPatients:
    """A statistic of the first ``count`` patients, those that a fold's numbers reach to."""

    def __init__(self, statistic: Statistic, count: int):
        self.keys, self._statistic, self._count = statistic.keys, statistic, count

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        return self._statistic.replicate(weights[: self._count])


def paired_tables(
    compared: ComparedRows, headings: Mapping[str, str], units: str, plan: BootstrapPlan = PLAN
) -> dict[str, str]:
    """GitHub tables by heading: the values, the differences to the reference, the patients needed.

    Args:
        compared: the rows.
        headings: of the columns, by metric, in order; those that no row has are left out.
        units: what a value is the mean of, in words.
        plan: the bootstrap that was made.
    """
    columns = {m: words for m, words in headings.items() if any(m in found for found in compared.metrics.values())}
    level = f"{plan.confidence:.0%}".replace("%", " %")
    values = [
        [name, *(_value_cell(found.get(metric)) for metric in columns)] for name, found in compared.metrics.items()
    ]
    tables = {f"{units}, with {level} interval over the {compared.patients} test patients": values}
    if compared.differences:
        other = compared.reference
        tables[f"Difference to {other}, with {level} interval, paired by patient"] = [
            [name, *(_difference_cell(found.get(metric)) for metric in columns)]
            for name, found in compared.differences.items()
        ]
        tables[f"Test patients needed to tell the difference to {other} from 0 (power 80 %, two-sided 5 %)"] = [
            [name, *(_needed_cell(found.get(metric)) for metric in columns)]
            for name, found in compared.differences.items()
        ]
    header = ["row", *columns.values()]
    return {heading: tabulate(lines, header, tablefmt="github") for heading, lines in tables.items()}


def write_paired(compared: ComparedRows, path: Path, notes: Mapping[str, Any], plan: BootstrapPlan = PLAN) -> None:
    """Write all numbers as JSON.

    By row and metric: ``value``, ``units``, ``low``, ``high``, and of all rows but the reference ``difference``:
    {``value``, ``low``, ``high``, ``error``, ``p``, ``patients_needed``}.

    Args:
        compared: the rows.
        path: the file.
        notes: more to write, e.g. the options in force.
        plan: the bootstrap that was made.
    """
    rows = {
        name: {metric: _entry(value, compared.differences.get(name, {}).get(metric)) for metric, value in found.items()}
        for name, found in compared.metrics.items()
    }
    content = {"patients": compared.patients, "reference": compared.reference, "bootstrap": str(plan), **notes}
    write_json(path, {**content, "rows": rows}, nan_as_null=True)


def write_comparison(
    rows: Mapping[str, Sequence[Predictions]],
    configs: Mapping[str, CfgNode],
    options: TableOptions,
    output: Path,
    units: str,
) -> dict[str, str]:
    """Compare rows, write ``paired_<class>.json``, and make the tables.

    Args:
        rows: see ``compare_predictions``.
        configs: by name of the row.
        options: what to show.
        output: folder.
        units: what a value is the mean of, in words.

    Returns:
        Table by heading; empty without predictions.
    """
    rules = options.rules(configs)
    compared = compare_predictions(rows, rules, options.reference, fold_means=options.fold_means)
    if compared is None:
        return {}
    rule = rules[compared.reference]
    notes = {"class": rule.class_name, "froc": str(rule.froc), "units": units}
    write_paired(compared, output / f"paired_{rule.class_name}.json", notes)
    return paired_tables(compared, rule.headings(), units)


def as_text(tables: Mapping[str, str]) -> str:
    """Tables below each other, each with its heading."""
    return "\n\n".join(f"{heading}:\n\n{text}" for heading, text in tables.items())


def _entry(value: RowMetric, difference: RowDifference | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "value": value.value,
        "units": value.units,
        "low": value.interval.low,
        "high": value.interval.high,
        "undefined_replicates": value.interval.undefined,
    }
    if difference is not None:
        entry["difference"] = {
            "value": difference.comparison.difference,
            "low": difference.comparison.low,
            "high": difference.comparison.high,
            "error": difference.error,
            "p": difference.comparison.p,
            "patients_needed": difference.patients_needed,
        }
    return entry


def _value_cell(metric: RowMetric | None) -> str:
    if metric is None or math.isnan(metric.value):
        return ""
    return f"{metric.value:.3f} ({metric.interval.low:.3f} to {metric.interval.high:.3f})"


def _difference_cell(difference: RowDifference | None) -> str:
    if difference is None or math.isnan(difference.comparison.difference):
        return ""
    comparison = difference.comparison
    return f"{comparison.difference:+.3f} ({comparison.low:+.3f} to {comparison.high:+.3f})"


def _needed_cell(difference: RowDifference | None) -> str:
    if difference is None or difference.patients_needed is None or math.isnan(difference.patients_needed):
        return ""
    return "∞" if math.isinf(difference.patients_needed) else f"{difference.patients_needed:.0f}"
