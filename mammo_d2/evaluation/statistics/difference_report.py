"""Two systems on the same patients: differences with intervals, p values, non-inferiority, and patients needed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.bootstrap import (
    Comparison,
    Interval,
    Statistic,
    bootstrap,
    estimate,
    paired_comparison,
)
from mammo_d2.evaluation.metrics.comparison.froc_area import FrocAreaStatistic
from mammo_d2.evaluation.metrics.comparison.intervals import (
    deciding_patients,
    deciding_share,
    left_out_values,
    make_interval,
)
from mammo_d2.evaluation.metrics.comparison.mcnemar import McNemarResult, mcnemar_test
from mammo_d2.evaluation.metrics.comparison.noninferiority import (
    NonInferiority,
    noninferiority_of_replicates,
    noninferiority_test,
)
from mammo_d2.evaluation.metrics.comparison.permutation import permutation_test, pooled_cases, pooled_events
from mammo_d2.evaluation.metrics.comparison.sample_size import patients_needed
from mammo_d2.evaluation.metrics.detection.froc import FrocEvents, FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.readers.afroc_statistic import AfrocStatistic
from mammo_d2.evaluation.metrics.scores.delong import AucComparison, delong_test
from mammo_d2.evaluation.metrics.scores.levels import positive_labels
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic
from mammo_d2.evaluation.statistics.scored_cases import CaseRule, Resampling, ScoredSystem, check_same_cases
from mammo_d2.evaluation.study.paper_tables import difference_cells, p_text, value_text, write_tables
from mammo_d2.evaluation.study.plots import ForestRow, plot_forest

#: Metrics by name; of those with @ the number after it may be any.
METRIC_NAMES = "auc, pauc_ratio, sens@spec0.9, spec@sens0.85, froc@0.5, froc_area@1, afroc, wafroc"
_PATTERN = re.compile(r"auc|pauc_ratio|(sens@spec|spec@sens|froc@|froc_area@)(\d*\.?\d+)|w?afroc")


@dataclass(frozen=True)
class DifferenceOptions:
    """What to compare: metric names, ``kind`` of interval, ``margin`` of non-inferiority (None: no test),
    ``permutations`` (0: no test), and ``thresholds`` of the two systems for McNemar's test (None: no test)."""

    metrics: tuple[str, ...] = ("auc",)
    kind: str = "percentile"
    margin: float | None = None
    permutations: int = 0
    thresholds: tuple[float, float] | None = None


@dataclass(frozen=True)
class DifferenceRow:
    """One metric of both systems, second minus first."""

    metric: str
    values: tuple[float, float]
    intervals: tuple[Interval, Interval]
    comparison: Comparison
    permutation_p: float
    noninferiority: NonInferiority | None
    patients_needed: float


@dataclass(frozen=True)
class DifferenceReport:
    """Rows, DeLong's test of the AUC and non-inferiority by it, McNemar's tests by name, the options in words."""

    names: tuple[str, str]
    rows: Sequence[DifferenceRow]
    delong: AucComparison | None
    delong_noninferiority: NonInferiority | None
    mcnemar: dict[str, McNemarResult]
    words: Sequence[str]


def check_metric(name: str) -> str:
    """The name, if it is one of a metric.

    Raises:
        ValueError: it is none.
    """
    found = _PATTERN.fullmatch(name)
    if found is None or (found[1] in ("sens@spec", "spec@sens") and not 0 < float(found[2]) <= 1):
        raise ValueError(f"--metrics {name}: it is none of {METRIC_NAMES} (any number after @)")
    return name


def is_detection_metric(name: str) -> bool:
    """Whether a metric needs boxes."""
    return "froc" in name


@dataclass(frozen=True)
class _Family:
    """Statistics of the two systems, and of both pooled for exchanges, that give the same keys."""

    statistics: tuple[Statistic, Statistic]
    pooled: Statistic
    metrics: dict[str, int]  # metric name -> row


def difference_report(
    truth: GroundTruth,
    systems: tuple[ScoredSystem, ScoredSystem],
    rule: CaseRule,
    froc_rule: FrocRule,
    resampling: Resampling,
    options: DifferenceOptions,
    progress: Callable[[int], None] | None = None,
) -> DifferenceReport:
    """Compare the second system with the first.

    Raises:
        ResultsError: different cases, or a detection metric of a system without boxes.
        ValueError: an unknown metric.
    """
    check_same_cases(systems)
    families = _families(truth, systems, rule, froc_rule, options.metrics, resampling.patients)
    plan = resampling.plan
    everything = {f"{n}{s}": family.statistics[s] for n, family in enumerate(families) for s in (0, 1)}
    drawn = bootstrap(everything, resampling.patients, plan, resampling.strata, progress)
    rows: dict[str, DifferenceRow] = {}
    for n, family in enumerate(families):
        values = [estimate(statistic, resampling.patients) for statistic in family.statistics]
        without = [
            left_out_values(s, resampling.patients) if options.kind == "bca" else np.zeros((len(s.keys), 0))
            for s in family.statistics
        ]
        exchanged = (
            permutation_test(family.pooled, resampling.patients, options.permutations, plan.seed)
            if options.permutations
            else {}
        )
        for metric, row in family.metrics.items():
            pair = [(float(values[s][row]), drawn[f"{n}{s}"][row], without[s][row]) for s in (0, 1)]
            p = exchanged[family.pooled.keys[row]].p if exchanged else float("nan")
            rows[metric] = _row(metric, pair, p, resampling, options)
    first, second = systems
    delong = by_delong = None
    if "auc" in options.metrics:
        delong = delong_test(
            first.cases.truth, second.cases.scores, first.cases.scores, first.cases.patient, plan.confidence
        )
    if delong is not None and options.margin is not None:
        by_delong = noninferiority_test(delong.difference, delong.error, options.margin, (1 - plan.confidence) / 2)
    words = [
        str(rule),
        str(plan).replace("percentile", options.kind),
        "p: bootstrap, by the percentile interval, whatever the intervals shown",
    ]
    if any(map(is_detection_metric, options.metrics)):
        words.insert(1, str(froc_rule))
    if options.margin is not None:
        words.append(
            f"non-inferiority: margin {options.margin:g}, one-sided level {(1 - plan.confidence) / 2:g}; the margin "
            "must have been set before the results were seen"
        )
    return DifferenceReport(
        (first.name, second.name),
        [rows[name] for name in dict.fromkeys(options.metrics)],
        delong,
        by_delong,
        _mcnemar(systems, options.thresholds),
        words,
    )


def _families(
    truth: GroundTruth,
    systems: tuple[ScoredSystem, ScoredSystem],
    rule: CaseRule,
    froc_rule: FrocRule,
    metrics: Sequence[str],
    patients: int,
) -> list[_Family]:
    for name in metrics:
        check_metric(name)
    families = []
    of_scores = [name for name in metrics if not is_detection_metric(name)]
    if of_scores:
        score_rule = ScoreRule(
            sensitivities=tuple(_numbers(of_scores, "spec@sens")), specificities=tuple(_numbers(of_scores, "sens@spec"))
        )
        a, b = (system.cases for system in systems)
        parts = [ScoreStatistic(cases, score_rule) for cases in (a, b, pooled_cases(a, b, patients))]
        keys = {name: parts[0].keys.index(_normal(name)) for name in of_scores}
        families.append(_Family((parts[0], parts[1]), parts[2], keys))
    of_boxes = [name for name in metrics if is_detection_metric(name)]
    if of_boxes:
        events = _events(truth, systems, rule, froc_rule)
        patient = truth.images.patient
        both, both_patient = pooled_events(*events, patient, patients)
        triples = ((events[0], patient), (events[1], patient), (both, both_patient))
        if rates := _numbers(of_boxes, "froc@"):
            at_rates = replace(froc_rule, rates=tuple(rates), mean_rates=())
            froc = [FrocStatistic(e, p, at_rates) for e, p in triples]
            families.append(_Family((froc[0], froc[1]), froc[2], {f"froc@{r:g}": n for n, r in enumerate(rates)}))
        for limit in _numbers(of_boxes, "froc_area@"):
            area = [FrocAreaStatistic(e, p, limit) for e, p in triples]
            families.append(_Family((area[0], area[1]), area[2], {f"froc_area@{limit:g}": 0}))
        if wanted := {"afroc", "wafroc"} & set(of_boxes):
            afroc = [AfrocStatistic(e, p) for e, p in triples]
            rows = {name: afroc[0].keys.index(name) for name in wanted}
            families.append(_Family((afroc[0], afroc[1]), afroc[2], rows))
    return families


def _numbers(names: Sequence[str], prefix: str) -> list[float]:
    return [float(name.removeprefix(prefix)) for name in dict.fromkeys(names) if name.startswith(prefix)]


def _normal(name: str) -> str:
    """A metric's name with its number as statistics write it: sens@spec0.90 is sens@spec0.9."""
    found = _PATTERN.fullmatch(name)
    return f"{found[1]}{float(found[2]):g}" if found and found[1] else name


def _events(
    truth: GroundTruth, systems: tuple[ScoredSystem, ScoredSystem], rule: CaseRule, froc_rule: FrocRule
) -> tuple[FrocEvents, FrocEvents]:
    positive = positive_labels(truth.images.classes, rule.positive_classes)
    found = []
    for system in systems:
        if system.detections is None:
            raise ResultsError(f"{system.name}: image scores have no boxes; name COCO results for FROC metrics")
        lesion_rule = replace(froc_rule, recall_unit="lesion")
        found.append(
            froc_events(truth.data(system.detections), lesion_rule, positive[0] if len(positive) == 1 else None)
        )
    return found[0], found[1]


def _row(
    metric: str,
    pair: Sequence[tuple[float, np.ndarray, np.ndarray]],
    permutation_p: float,
    resampling: Resampling,
    options: DifferenceOptions,
) -> DifferenceRow:
    plan = resampling.plan
    clusters = deciding_patients(resampling.clusters, deciding_share(metric))
    strata = resampling.strata if plan.stratified else None

    def interval_of(value: float, drawn: np.ndarray, without: np.ndarray, is_difference: bool = False) -> Interval:
        return make_interval(
            options.kind, value, drawn, plan.confidence,
            left_out=without, strata=strata, clusters=clusters, is_difference=is_difference,
        )  # fmt: skip

    (a, a_drawn, a_without), (b, b_drawn, b_without) = pair
    change = b_drawn - a_drawn
    interval = interval_of(b - a, change, b_without - a_without, True)
    p = paired_comparison(a, b, a_drawn, b_drawn, plan.confidence).p
    defined = change[~np.isnan(change)]
    error = float(np.std(defined, ddof=1)) if len(defined) > 1 else float("nan")
    level = (1 - plan.confidence) / 2
    margin = options.margin
    return DifferenceRow(
        metric,
        (a, b),
        (interval_of(*pair[0]), interval_of(*pair[1])),
        Comparison(b - a, interval.low, interval.high, p),
        permutation_p,
        None if margin is None else _noninferior(b - a, change, interval, margin, level, options.kind),
        patients_needed(resampling.patients, error, b - a),
    )


def _noninferior(
    difference: float, drawn: np.ndarray, interval: Interval, margin: float, level: float, kind: str
) -> NonInferiority:
    """By the replicates; other intervals than the percentile one decide by their own lower limit."""
    found = noninferiority_of_replicates(difference, drawn, margin, level)
    return found if kind == "percentile" else replace(found, low=interval.low, is_noninferior=interval.low > -margin)


def _mcnemar(
    systems: tuple[ScoredSystem, ScoredSystem], thresholds: tuple[float, float] | None
) -> dict[str, McNemarResult]:
    if thresholds is None:
        return {}
    positive = systems[0].cases.truth == 1
    called = [system.cases.scores >= threshold for system, threshold in zip(systems, thresholds, strict=True)]
    patient = systems[0].cases.patient
    return {
        "sensitivity": mcnemar_test(called[0][positive], called[1][positive], patient[positive]),
        "specificity": mcnemar_test(~called[0][~positive], ~called[1][~positive], patient[~positive]),
    }


def difference_table(report: DifferenceReport) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table."""
    first, second = report.names
    has_permutation = any(not np.isnan(row.permutation_p) for row in report.rows)
    has_margin = any(row.noninferiority for row in report.rows)
    header = ["metric", first, second, f"{second} - {first}", "p"]
    header += ["p (permutation)"] if has_permutation else []
    header += ["not inferior", "p (margin)"] if has_margin else []
    rows = []
    for row in report.rows:
        cells = [row.metric]
        cells += [value_text(v, i.low, i.high) for v, i in zip(row.values, row.intervals, strict=True)]
        cells += difference_cells(row.comparison)
        cells += [p_text(row.permutation_p)] if has_permutation else []
        if has_margin and row.noninferiority is not None:
            cells += _noninferiority_cells(row.noninferiority)
        rows.append([*cells, _whole(row.patients_needed)])
    if report.delong is not None:
        cells = ["auc (DeLong)", "", "", *difference_cells(report.delong)]
        cells += [""] if has_permutation else []
        cells += [] if report.delong_noninferiority is None else _noninferiority_cells(report.delong_noninferiority)
        rows.append([*cells, ""])
    return [*header, "patients needed"], rows


def _noninferiority_cells(test: NonInferiority) -> list[str]:
    return ["yes" if test.is_noninferior else "not shown", p_text(test.p)]


def _whole(number: float) -> str:
    if np.isnan(number):
        return "--"
    return "inf" if np.isinf(number) else f"{number:.0f}"


def difference_text(report: DifferenceReport) -> str:
    """The tables for the console."""
    header, rows = difference_table(report)
    lines = [*report.words, "", tabulate(rows, header, disable_numparse=True)]
    if report.mcnemar:
        table = [
            [name, r.first_only, r.second_only, f"{r.difference:+.3f}", *map(p_text, (r.p, r.p_exact, r.p_mid))]
            for name, r in report.mcnemar.items()
        ]
        columns = ["McNemar", f"only {report.names[0]}", f"only {report.names[1]}", "difference", "p", "exact", "mid-p"]
        lines += ["", tabulate(table, columns, disable_numparse=True)]
    lines.append("patients needed: for 80 % power at 5 % to tell this difference from 0, with the same mix of patients")
    return "\n".join(lines)


def write_difference(report: DifferenceReport, folder: str | os.PathLike, formats: Sequence[str]) -> list[Path]:
    """Write difference.json, .md, .tex, and the forest plot in each format."""
    folder = Path(folder)
    first, second = report.names
    content = {
        "options": list(report.words),
        "first": first,
        "second": second,
        "metrics": {row.metric: asdict(row) for row in report.rows},
        "auc_delong": None if report.delong is None else asdict(report.delong),
        "auc_delong_noninferiority": None
        if report.delong_noninferiority is None
        else asdict(report.delong_noninferiority),
        "mcnemar": {name: asdict(result) for name, result in report.mcnemar.items()},
    }
    paths = [write_json(folder / "difference.json", content, indent=2, nan_as_null=True)]
    paths += write_tables(folder, "difference", *difference_table(report), report.words)
    rows = [
        ForestRow(row.metric, c.difference, c.low, c.high, f"{c.difference:+.3f}  p = {p_text(c.p)}")
        for row in report.rows
        for c in (row.comparison,)
    ]
    title, label = f"{second} against {first}", f"difference ({second} - {first})"
    return paths + [plot_forest(rows, folder / f"difference.{kind}", title, label) for kind in formats]
