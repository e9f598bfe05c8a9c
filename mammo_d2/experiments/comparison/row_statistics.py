"""The metrics of a comparison: which can be computed of some predictions, as statistics that can be resampled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mammo_d2.evaluation.evaluators.registered import froc_rule_from_config
from mammo_d2.evaluation.metrics.bootstrap import Statistic
from mammo_d2.evaluation.metrics.detection.detection_ap import ApStatistic
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.detection.matching import HitRule, find_hits
from mammo_d2.evaluation.metrics.detection.presets import get_preset
from mammo_d2.evaluation.metrics.localization.best_regions import first_hit_ranks
from mammo_d2.evaluation.metrics.scores.lesion_decisions import FNRS
from mammo_d2.evaluation.metrics.scores.levels import (
    NO_BOX_SCORE,
    LevelCases,
    combine_truth,
    level_cases,
    max_box_scores,
    undefined_reason,
)
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic, ScoreRule, ScoreStatistic
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData
from mammo_d2.experiments.comparison.predictions import SALIENCY_KEYS, Findings, Predictions
from mammo_d2.framework import CfgNode

#: Class name for all classes together.
ANY = "any"
#: False positives per image at which sensitivities are compared.
RATES = (0.25, 0.5, 1.0, 2.0)

#: Columns of the tables, as far as the predictions of a row give them: metric → heading.
HEADINGS = {
    "image/auc": "image AUC",
    "breast/auc": "breast AUC",
    "patient/auc": "patient AUC",
    "image/pauc_ratio": "pAUCR",
    "image/spec@sens0.85": "spec@sens0.85",
    "image/sens@spec0.9": "sens@spec0.9",
    "ap/AP50": "AP50",
    "froc/sens@{rate}": "sens@{rate}",
    "regions/hit@1": "hit@1",
    "saliency/f1": "saliency F1",
    "saliency/pointing": "pointing",
    "pointing/hit": "pointing game",
    "lesion/auc": "lesion AUC",
    "lesion/tnr@fnr0": "TNR@FNR0",
    "lesion/tnr@fnr0.02": "TNR@FNR2%",
    "lesion/tnr@fnr0.05": "TNR@FNR5%",
}


@dataclass(frozen=True)
class RowRule:
    """How the predictions of a row are judged.

    Attributes:
        class_name: the class; ``ANY`` for all together.
        froc: when a box hits a lesion, and what counts as a false positive.
        aggregate: "mean" or "max" of the image scores over the images of a breast or patient. Scores that come from
            boxes are combined by their maximum.
        rates: false positives per image.
        all_methods: give what only a comparison of methods needs: one pointing game for maps and boxes, and the score
            of a method's boxes at the given lesions.
    """

    class_name: str
    froc: FrocRule = field(default_factory=FrocRule)
    aggregate: str = "max"
    rates: tuple[float, ...] = RATES
    all_methods: bool = False

    def headings(self) -> dict[str, str]:
        """``HEADINGS`` with the rates filled in; without those of single methods where all are compared."""
        found: dict[str, str] = {}
        for metric, heading in HEADINGS.items():
            if self.all_methods and metric.startswith(("regions/", "saliency/", "lesion/tnr")):
                continue
            rates = self.rates if "{rate}" in metric else (0.0,)
            found |= {metric.format(rate=f"{rate:g}"): heading.format(rate=f"{rate:g}") for rate in rates}
        return found


def rule_from_config(cfg: CfgNode, class_name: str, rates: Sequence[float] = RATES) -> RowRule:
    """The rule of TEST.FROC and TEST.IMAGE.AGGREGATE."""
    return RowRule(class_name, froc_rule_from_config(cfg), cfg.TEST.IMAGE.AGGREGATE, tuple(rates))


def default_class(classes: Sequence[str]) -> str:
    """ "malignant" if it is one of the classes, else the first."""
    return "malignant" if "malignant" in classes else classes[0]


def row_statistics(found: Predictions, rule: RowRule) -> dict[str, Statistic]:
    """Statistics by task of what the predictions allow: "image", "breast", "patient", "ap", "froc", "regions",
    "saliency", "lesion", "pointing". An image without image scores has its highest box score, 0 without a box.

    Raises:
        ValueError: a class that the predictions do not have.
    """
    classes = found.images.classes
    if rule.class_name != ANY and rule.class_name not in classes:
        raise ValueError(f"{found.source}: there is no class {rule.class_name!r}; the run knows {', '.join(classes)}")
    labels = [n for n, name in enumerate(classes) if rule.class_name in (ANY, name)]
    label = None if len(labels) > 1 else labels[0]
    patient = found.images.patient
    statistics: dict[str, Statistic] = {}
    truth = combine_truth(found.images.truth[:, labels])
    scores, how = None, rule.aggregate
    if found.image_scores is not None:
        scores = found.image_scores[:, labels].max(axis=1)
    elif found.boxes is not None:
        scores, how = max_box_scores(found.boxes, len(found.images), labels), "max"
    if scores is not None:
        for level in ("image", "breast", "patient"):
            cases = level_cases(found.images, truth, scores, level, how)
            if not undefined_reason(cases):
                statistics[level] = ScoreStatistic(cases, ScoreRule())
    if found.boxes is not None:
        data = EvaluationData(found.images, found.lesions, found.boxes)
        froc = replace(rule.froc, rates=rule.rates, mean_rates=())
        statistics["froc"] = FrocStatistic(froc_events(data, froc, label), patient, froc)
        preset = get_preset("coco")
        events = [froc_events(data, preset.ap_rule_at(0.5), number) for number in labels]
        statistics["ap"] = ApStatistic({"AP50": events}, patient, preset.ap)
    if found.regions is not None:
        statistics["regions"] = _hits(found, found.regions, rule.froc, labels)
    if label is not None and classes[label] in found.saliency:
        statistics["saliency"] = MeanStatistic(found.saliency[classes[label]], list(SALIENCY_KEYS), patient)
    if found.lesion_cases is not None and not undefined_reason(found.lesion_cases):
        statistics["lesion"] = ScoreStatistic(found.lesion_cases, ScoreRule(fnrs=FNRS))
    if rule.all_methods:
        if label is not None and classes[label] in found.saliency:
            maximum = found.saliency[classes[label]][SALIENCY_KEYS.index("pointing")]
            statistics["pointing"] = MeanStatistic(maximum[np.newaxis], ["hit"], patient)
        elif found.boxes is not None:
            statistics["pointing"] = _pointing(found, found.boxes, labels)
        if found.lesion_cases is None and found.boxes is not None and found.findings is not None:
            cases = box_lesion_cases(found, found.boxes, found.findings, rule.froc, labels)
            if not undefined_reason(cases):
                statistics["lesion"] = ScoreStatistic(cases, ScoreRule(fnrs=FNRS))
    return statistics


def box_lesion_cases(
    found: Predictions, boxes: DetectionTable, findings: Findings, rule: FrocRule, labels: Sequence[int]
) -> LevelCases:
    """Given lesions, each with the highest score of a box of the classes that hits it, or the score of no box.

    Args:
        found: the images.
        boxes: of the method.
        findings: the lesions.
        rule: when a box hits a lesion.
        labels: numbers of the classes.
    """
    boxes = boxes.take(np.isin(boxes.label, np.asarray(labels)))
    lowest = float(boxes.scores.min()) if len(boxes) else NO_BOX_SCORE
    scores = np.full(len(findings.image), NO_BOX_SCORE if lowest >= 0 else lowest - 1)
    spacing = found.images.spacing[findings.image]
    pairs = find_hits(rule.hit, boxes.boxes, boxes.image, findings.boxes, findings.image, spacing)
    np.maximum.at(scores, pairs.lesion, boxes.scores[pairs.detection])
    return LevelCases(findings.malignant, scores, found.images.patient[findings.image], 0)


def _pointing(found: Predictions, boxes: DetectionTable, labels: Sequence[int]) -> MeanStatistic:
    """Part of the images with a lesion in which the centre of the best box of the classes lies in one."""
    chosen = boxes.take(np.isin(boxes.label, np.asarray(labels)))
    one_class = DetectionTable(chosen.boxes, chosen.scores, chosen.image, np.zeros(len(chosen), np.int64))
    lesions = found.lesions.take(np.isin(found.lesions.label, np.asarray(labels)))
    data = EvaluationData(
        replace(found.images, classes=("finding",), truth=found.images.truth[:, :1]),
        replace(lesions, label=np.zeros(len(lesions), np.int64)),
        one_class,
    )
    ranks = first_hit_ranks(data, HitRule("center_in_box"))[:, 0]
    hits = np.where(np.isnan(ranks), np.nan, ranks == 1)
    return MeanStatistic(hits[np.newaxis], ["hit"], found.images.patient)


def _hits(found: Predictions, regions: DetectionTable, rule: FrocRule, labels: Sequence[int]) -> MeanStatistic:
    """Part of the images with a lesion in which the best region, or one of the best three, hits one."""
    data = EvaluationData(found.images, found.lesions, regions)
    ranks = first_hit_ranks(data, rule.hit)[:, labels]
    known = ~np.isnan(ranks).all(axis=1)
    best = np.min(ranks, axis=1, initial=np.inf, where=~np.isnan(ranks))
    hits = np.array([np.where(known, best <= count, np.nan) for count in (1, 3)], float)
    return MeanStatistic(hits, ["hit@1", "hit@3"], found.images.patient)
