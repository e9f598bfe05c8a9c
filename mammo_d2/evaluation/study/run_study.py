"""Evaluate one or more systems against one ground truth: numbers, intervals, curves, paired differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.metrics.bootstrap import (
    Comparison,
    Interval,
    Statistic,
    bootstrap,
    estimate,
    paired_comparison,
    percentile_interval,
)
from mammo_d2.evaluation.metrics.challenges.challenge_scores import RankingScore, dbtex_script
from mammo_d2.evaluation.metrics.comparison.intervals import deciding_patients, deciding_share, make_interval
from mammo_d2.evaluation.metrics.detection.coco_map import coco_average_precision
from mammo_d2.evaluation.metrics.detection.detection_ap import ApStatistic, ap_events
from mammo_d2.evaluation.metrics.detection.froc import froc_events, froc_labels
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, summarize_froc
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.scores.curves import roc_curve, score_table, threshold_at_sensitivity
from mammo_d2.evaluation.metrics.scores.delong import AucComparison, delong_interval, delong_test
from mammo_d2.evaluation.metrics.scores.levels import (
    LevelCases,
    aggregate_truth,
    combine_truth,
    level_cases,
    max_box_scores,
    positive_labels,
    undefined_reason,
)
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic, wilson_intervals
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.evaluation.study.plots import PlotCurve
from mammo_d2.evaluation.study.study import (
    LEVELS,
    MetricValue,
    PairReport,
    Study,
    StudyOptions,
    System,
    SystemReport,
)

_ROC_GRID = np.linspace(0, 1, 101)


@dataclass
class PreparedSystem:
    """The statistics of one system before resampling, how many of their last rows are the band of a curve, and the
    cases of the AUC tests."""

    statistics: dict[str, Statistic]
    bands: dict[str, int]
    cases: dict[str, LevelCases]
    fixed: dict[str, MetricValue]
    reasons: dict[str, str]
    report: SystemReport

    def number_keys(self, task: str) -> Sequence[str]:
        """Keys of a task without those of its band."""
        keys = self.statistics[task].keys
        return keys[: len(keys) - self.bands.get(task, 0)]


def run_study(
    truth: GroundTruth, systems: Sequence[System], options: StudyOptions, progress: Callable[[int], None] | None = None
) -> Study:
    """Evaluate systems on one ground truth with the same bootstrap draws.

    Args:
        truth: the ground truth.
        systems: at least one.
        options: what to compute.
        progress: called with the number of replicates done.
    """
    positive = positive_labels(truth.images.classes, options.positive_classes)
    case_truth = combine_truth(truth.images.truth[:, positive])
    works = [prepare_system(truth, system, options, positive, case_truth) for system in systems]
    patients = int(truth.images.patient.max(initial=-1)) + 1
    strata = np.nan_to_num(aggregate_truth(case_truth, truth.images.patient), nan=2.0)
    clusters = int(min((strata == 1).sum(), (strata == 0).sum()))
    # Levels with the same cases (one exam per patient, say) have one statistic.
    everything = {str(id(statistic)): statistic for work in works for statistic in work.statistics.values()}
    values = bootstrap(everything, patients, options.plan, strata, progress)
    estimates = {key: estimate(statistic, patients) for key, statistic in everything.items()}
    for work in works:
        _finish(work, values, estimates, options, clusters)
    pairs = [_compare(works, number, values, options, clusters) for number in range(1, len(works))]
    classes = [truth.images.classes[label] for label in positive]
    words = [
        str(options.preset),
        f"positive classes: {', '.join(classes)}; {options.scores}; image scores combined by {options.aggregation}, "
        "box scores by max",
        str(options.plan).replace("percentile", options.interval),
        "AUC interval: DeLong, below patient level with Obuchowski's correction for patients",
    ]
    return Study([work.report for work in works], pairs, words)


def prepare_system(
    truth: GroundTruth, system: System, options: StudyOptions, positive: list[int], case_truth: np.ndarray
) -> PreparedSystem:
    """Match and sort one system's results, so that replicates only sum.

    Args:
        truth, system, options: as for ``run_study``.
        positive: numbers of the classes that make a case positive.
        case_truth: (N,) truth of these classes together.
    """
    report = SystemReport(system.name, {}, {}, {}, {}, {**truth.notes, **system.notes}, [])
    work = PreparedSystem({}, {}, {}, {}, {}, report)
    if system.detections is not None:
        _prepare_detection(work, truth, system.detections, options)
    scores, how = system.image_scores, options.aggregation
    if scores is None and system.detections is not None:
        best, how = max_box_scores(system.detections, len(truth.images), positive), "max"
    elif scores is not None:
        # An image that lacks one class's score still has the others'.
        best = np.max(scores[:, positive], axis=1, initial=-np.inf, where=~np.isnan(scores[:, positive]))
        best[np.isneginf(best)] = np.nan
        for label in positive:
            if lacking := int(np.isnan(scores[:, label]).sum()):
                note = f"images without a score of {truth.images.classes[label]}"
                report.notes = {**report.notes, note: lacking}
    else:
        raise ValueError(f"system {system.name!r} has neither detections nor image scores")
    for level in LEVELS:
        cases = level_cases(truth.images, case_truth, best, level, how)
        _prepare_level(work, level, cases, options.scores)
    return work


def _prepare_detection(
    work: PreparedSystem, truth: GroundTruth, detections: DetectionTable, options: StudyOptions
) -> None:
    data, preset = truth.data(detections), options.preset
    patient, rule = truth.images.patient, preset.rule
    for label, name in froc_labels(truth.images.classes):
        events = froc_events(data, rule, label)
        task = f"froc/{name}"
        summary = summarize_froc(events, rule)
        grid = np.geomspace(min(rule.rates) / 4 or 0.01, max(rule.rates) * 1.25 or 1.0, 60)
        work.statistics[task] = FrocStatistic(events, patient, rule, grid.tolist())
        work.bands[task] = len(grid)
        if summary.reason:
            work.reasons[task] = work.reasons[f"ap/{name}"] = summary.reason
        for key, value in summary.flat().items():
            if not key.startswith(("sens@", "mean_sens")):
                reason = (summary.reason or "no lesion was found") if np.isnan(value) else ""
                work.fixed[f"{task}/{key}"] = MetricValue(value, reason=reason)
        curve = froc_curve(events)
        work.report.froc_curves[name] = PlotCurve(work.report.name, curve.fp_per_image, curve.sensitivity, grid)
        thresholds = preset.thresholds if options.all_thresholds else preset.thresholds[:1]
        sets = ap_events(data, [preset.ap_rule_at(t) for t in thresholds], label)
        wanted = {f"AP@{thresholds[0]:g}": sets[:1], **({"AP": sets} if len(sets) > 1 else {})}
        work.statistics[f"ap/{name}"] = ApStatistic(wanted, patient, preset.ap)
        if preset.script == "dbtex":
            for key, value in dbtex_script(data, rule, label).items():
                work.fixed[f"challenge/{name}/{key}"] = MetricValue(
                    value, reason="no lesion" if np.isnan(value) else ""
                )
        if preset.script == "picai" and label is not None:
            best = max_box_scores(detections, len(truth.images), [label])
            images = ScoreStatistic(
                level_cases(truth.images, truth.images.truth[:, label], best, "image"), options.scores
            )
            work.statistics[f"challenge/{name}"] = RankingScore(images, work.statistics[f"ap/{name}"])
    coco = coco_average_precision(data)
    for key, value in coco.numbers.items():
        work.fixed[f"coco/{key}"] = MetricValue(value, reason=coco.reasons.get(key, ""))
    work.report.options.append(coco.options)


def _prepare_level(work: PreparedSystem, level: str, cases: LevelCases, rule: ScoreRule) -> None:
    same = next((other for other, known in work.cases.items() if known.same_as(cases)), None)
    work.statistics[level] = ScoreStatistic(cases, rule, _ROC_GRID.tolist()) if same is None else work.statistics[same]
    work.bands[level] = len(_ROC_GRID)
    work.cases[level] = cases
    table = score_table(cases.truth, cases.scores)
    for sensitivity in rule.sensitivities:
        key = f"{level}/threshold@sens{sensitivity:g}"
        work.fixed[key] = MetricValue(threshold_at_sensitivity(table, sensitivity), reason=undefined_reason(cases))
    positives = int(cases.truth.sum())
    work.fixed[f"{level}/num_positive"] = MetricValue(float(positives))
    work.fixed[f"{level}/num_negative"] = MetricValue(float(len(cases.truth) - positives))
    work.fixed[f"{level}/num_unknown"] = MetricValue(float(cases.unknown))
    if cases.unscored:
        work.report.notes = {**work.report.notes, f"{level} cases without score (left out)": cases.unscored}
    if reason := undefined_reason(cases):
        work.reasons[level] = reason
    curve = roc_curve(table)
    work.report.roc_curves[level] = PlotCurve(work.report.name, curve.fpr, curve.tpr, _ROC_GRID)


def _finish(
    work: PreparedSystem,
    values: Mapping[str, np.ndarray],
    estimates: Mapping[str, np.ndarray],
    options: StudyOptions,
    clusters: int,
) -> None:
    plan = options.plan
    for task, statistic in work.statistics.items():
        replicates, estimated = values[str(id(statistic))], estimates[str(id(statistic))]
        for row, key in enumerate(work.number_keys(task)):
            value = estimated[row]
            reason = (work.reasons.get(task) or "not defined on these data") if np.isnan(value) else ""
            interval = _interval(key, value, replicates[row], options, clusters)
            work.report.metrics[f"{task}/{key}"] = MetricValue(float(value), interval, reason)
    work.report.metrics.update(work.fixed)
    # Cases of a patient are independent of other patients only: Wilson's intervals are for patients.
    work.report.wilson = wilson_intervals(work.cases["patient"], options.scores, plan.confidence)
    for level, cases in work.cases.items():
        work.report.auc[level] = delong_interval(cases.truth, cases.scores, cases.patient, plan.confidence)
    for task, rows in work.bands.items():
        replicates = values[str(id(work.statistics[task]))][-rows:]
        curves = work.report.roc_curves if task in work.cases else work.report.froc_curves
        name = task if task in work.cases else task.removeprefix("froc/")
        if replicates.shape[1]:
            intervals = [percentile_interval(row, plan.confidence) for row in replicates]
            low, high = np.array([i.low for i in intervals]), np.array([i.high for i in intervals])
            curves[name] = PlotCurve(curves[name].name, curves[name].x, curves[name].y, curves[name].band_x, low, high)
        else:
            curves[name] = PlotCurve(curves[name].name, curves[name].x, curves[name].y)


def _interval(
    key: str,
    value: float,
    replicates: np.ndarray,
    options: StudyOptions,
    clusters: int,
    *,
    is_difference: bool = False,
) -> Interval:
    """The interval of a metric, of the kind that the options name."""
    deciding = deciding_patients(clusters, deciding_share(key, options.scores.min_sensitivity))
    return make_interval(
        options.interval,
        float(value),
        replicates,
        options.plan.confidence,
        clusters=deciding,
        is_difference=is_difference,
    )


def _compare(
    works: Sequence[PreparedSystem],
    number: int,
    values: Mapping[str, np.ndarray],
    options: StudyOptions,
    clusters: int,
) -> PairReport:
    first, second = works[0], works[number]
    differences: dict[str, Comparison] = {}
    tests: dict[str, AucComparison] = {}
    for task, statistic in first.statistics.items():
        if task not in second.statistics:
            continue
        a, b = values[str(id(statistic))], values[str(id(second.statistics[task]))]
        for row, key in enumerate(first.number_keys(task)):
            name = f"{task}/{key}"
            x, y = first.report.metrics[name].value, second.report.metrics[name].value
            compared = paired_comparison(x, y, a[row], b[row], options.plan.confidence)
            interval = _interval(key, y - x, b[row] - a[row], options, clusters, is_difference=True)
            differences[name] = replace(compared, low=interval.low, high=interval.high)
    for level in LEVELS:
        one, other = first.cases[level], second.cases[level]
        same = len(one.truth) == len(other.truth) and np.array_equal(one.patient, other.patient)
        if same and level not in first.reasons:
            try:
                tests[level] = delong_test(one.truth, other.scores, one.scores, one.patient, options.plan.confidence)
            except ValueError:
                continue  # a single positive or negative patient: the bootstrap row stands alone
    return PairReport(first.report.name, second.report.name, differences, tests)
