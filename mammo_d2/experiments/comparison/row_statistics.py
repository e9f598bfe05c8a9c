"""The metrics of a comparison: which can be computed of some predictions, as statistics that can be resampled."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mammo_d2.evaluation.evaluators.registered import froc_rule_from_config
from mammo_d2.evaluation.metrics.bootstrap import Statistic
from mammo_d2.evaluation.metrics.detection.detection_ap import ApStatistic
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.detection.presets import get_preset
from mammo_d2.evaluation.metrics.localization.best_regions import first_hit_ranks
from mammo_d2.evaluation.metrics.scores.lesion_decisions import FNRS
from mammo_d2.evaluation.metrics.scores.levels import combine_truth, level_cases, max_box_scores, undefined_reason
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic, ScoreRule, ScoreStatistic
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData
from mammo_d2.experiments.comparison.predictions import SALIENCY_KEYS, Predictions
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
    """

    class_name: str
    froc: FrocRule = field(default_factory=FrocRule)
    aggregate: str = "max"
    rates: tuple[float, ...] = RATES

    def headings(self) -> dict[str, str]:
        """``HEADINGS`` with the rates filled in."""
        found: dict[str, str] = {}
        for metric, heading in HEADINGS.items():
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
    "saliency", "lesion". An image without image scores has its highest box score, 0 without a box.

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
    return statistics


def _hits(found: Predictions, regions: DetectionTable, rule: FrocRule, labels: Sequence[int]) -> MeanStatistic:
    """Part of the images with a lesion in which the best region, or one of the best three, hits one."""
    data = EvaluationData(found.images, found.lesions, regions)
    ranks = first_hit_ranks(data, rule.hit)[:, labels]
    known = ~np.isnan(ranks).all(axis=1)
    best = np.min(ranks, axis=1, initial=np.inf, where=~np.isnan(ranks))
    hits = np.array([np.where(known, best <= count, np.nan) for count in (1, 3)], float)
    return MeanStatistic(hits, ["hit@1", "hit@3"], found.images.patient)
