"""Evaluators of boxes: COCO and VOC average precision, FROC, and decisions about patients from box scores."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator
from mammo_d2.evaluation.files.results import RESULTS_FILE, detections_to_coco, write_json
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.called_positive import called_positive, only_in
from mammo_d2.evaluation.metrics.detection.coco_map import coco_average_precision
from mammo_d2.evaluation.metrics.detection.detection_ap import average_precision
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import summarize_froc
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.detection.presets import PRESETS
from mammo_d2.evaluation.metrics.scores.curves import roc_curve, score_table
from mammo_d2.evaluation.metrics.scores.delong import delong_interval
from mammo_d2.evaluation.metrics.scores.levels import (
    combine_truth,
    level_cases,
    max_box_scores,
    positive_labels,
    undefined_reason,
)
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic, level_numbers
from mammo_d2.evaluation.metrics.tables import EvaluationData
from mammo_d2.evaluation.study.plots import PlotCurve, plot_froc, plot_roc

logger = logging.getLogger(__name__)


class CocoEvaluator(PredictionEvaluator):
    """COCO AP (see :func:`coco_average_precision`), and the predictions as a COCO results file."""

    task = "coco"
    needs = ("instances",)

    def __init__(self, dataset_name: str, output_dir: str | os.PathLike | None = None, backend: str = "numpy") -> None:
        super().__init__(dataset_name, output_dir)
        self.backend = backend

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        data = self.data(records, found)
        if self.output_dir is not None:
            entries = detections_to_coco(data.detections, data.images, self.category_ids)
            write_json(self.output_dir / RESULTS_FILE, entries)
        summary = coco_average_precision(data, self.backend)
        return Computed(dict(summary.numbers), dict(summary.reasons), summary.options)


class VocEvaluator(PredictionEvaluator):
    """PASCAL VOC AP at IoU > 0.5 (top-likelihood paper): ``AP50`` is the area under the curve (VOC 2010 and later),
    ``AP50_11`` the mean over 11 recalls (VOC 2007); means over the classes with a lesion, and ``<class>/…``."""

    task = "voc"
    needs = ("instances",)
    presets = (("AP50", "voc10"), ("AP50_11", "voc07"))

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        data = self.data(records, found)
        result = Computed(options="; ".join(str(PRESETS[preset]) for _, preset in self.presets))
        events = [froc_events(data, PRESETS["voc10"].ap_rule, label) for label in range(len(self.classes))]
        for key, preset in self.presets:
            values = np.array([average_precision(one, PRESETS[preset].ap) for one in events])
            result.numbers[key] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
            result.numbers.update({f"{name}/{key}": v for name, v in zip(self.classes, values.tolist(), strict=True)})
        result.reasons = {key: "no lesion in the ground truth" for key, v in result.numbers.items() if np.isnan(v)}
        return result


class FrocEvaluator(PredictionEvaluator):
    """FROC per class (and over all classes, ``all/``, where there are several); ``froc.png``."""

    task = "froc"
    needs: tuple[str, ...] = ("instances",)

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | os.PathLike | None = None,
        rule: FrocRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset_name, output_dir)
        self.rule = rule or FrocRule()
        self.plan = plan

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        data = self.data(records, found)
        patient = data.images.patient
        result = Computed(options=str(self.rule))
        curves, points, statistics = [], {}, {}
        labels: list[tuple[int | None, str]] = [*enumerate(self.classes)]
        for label, name in labels if len(labels) == 1 else [*labels, (None, "all")]:
            judged, remarks = self.judged(data, found, label)
            events = froc_events(judged, self.rule, label)
            summary = summarize_froc(events, self.rule)
            flat = {f"{name}/{key}": value for key, value in summary.flat().items()}
            result.numbers.update(flat)
            reason = summary.reason or "no lesion was found"
            result.reasons.update({key: reason for key, value in flat.items() if np.isnan(value)})
            points[name] = {
                "points": [vars(point) for point in summary.points],
                "images_counted": summary.num_images,
                "false_positives": summary.num_false_positives,
                "hit_area_ratio_quantiles": summary.hit_area_ratio,
                **remarks,
            }
            statistics[f"{name}/"] = FrocStatistic(events, patient, self.rule)
            curves.append(PlotCurve(name, summary.curve.fp_per_image, summary.curve.sensitivity))
        limits = self.intervals(statistics, patient, combine_truth(data.images.truth), self.plan)
        result.details = {"curves": points, "intervals": limits, "bootstrap": str(self.plan)}
        if self.output_dir is not None:
            title = f"FROC, {self.dataset_name} ({self.rule.hit})"
            plot_froc(curves, self.output_dir / f"{self.task}.png", title, self.rule.rates, self.rule.recall_unit)
        return result

    def judged(
        self, data: EvaluationData, found: Sequence[Any], label: int | None
    ) -> tuple[EvaluationData, dict[str, Any]]:
        """The data that the curve of a class (None: all) is about, and remarks on it for the JSON file."""
        return data, {}


class ClassifiedFrocEvaluator(FrocEvaluator):
    """FROC in the images that the model's image scores call positive at a sensitivity; ``froc_classified.png``.

    Of each class the images at or above the threshold count: recall is that of the true positive images, and regions of
    other images are not shown to anybody, so that they are no false positives. Those are averaged over all images, as
    FROC does (decided: the paper does not say).

    Source:
        Bakalo et al., ISBI 2019, section 3 and figure 3: "FROC at 0.85 sensitivity in classification", with recall of
        images.
    """

    task = "froc_classified"
    needs = ("instances", "image_scores")

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | os.PathLike | None = None,
        rule: FrocRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
        sensitivity: float = 0.85,
    ) -> None:
        """
        Args:
            dataset_name, output_dir, rule, plan: see the base class.
            sensitivity: of the classification of images.

        Raises:
            ValueError: a sensitivity outside (0, 1].
        """
        if not 0 < sensitivity <= 1:
            raise ValueError(f"TEST.FROC.CLASSIFICATION_SENSITIVITY is {sensitivity}; it must lie in (0, 1]")
        super().__init__(dataset_name, output_dir, rule, plan)
        self.sensitivity = sensitivity

    def keep(self, record: Mapping, output: Mapping) -> tuple:
        """As the base class, and (C,) image scores."""
        return *super().keep(record, output), self.image_scores(record, output)

    def data(self, records: Sequence[Mapping], found: Sequence[Any]) -> EvaluationData:
        return super().data(records, [one[:3] for one in found])

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        result = super().compute(records, found)
        result.options += f"; in images called positive at sensitivity {self.sensitivity:g}"
        return result

    def judged(
        self, data: EvaluationData, found: Sequence[Any], label: int | None
    ) -> tuple[EvaluationData, dict[str, Any]]:
        scores = np.array([one[3] for one in found], float).reshape(len(found), len(self.classes))
        called, threshold = called_positive(data, scores, label, self.sensitivity)
        return only_in(data, called, label), {"threshold": threshold, "images_called_positive": int(called.sum())}


class PatientEvaluator(PredictionEvaluator):
    """Decisions about patients (keys without prefix), breasts (``breast_``) and images (``image_``) from box scores.

    A case is called positive if any of its images has a box of a positive class with score > threshold; AUC ranks the
    cases by their maximum box score (top-likelihood paper). Truth: see
    :func:`mammo_d2.core.image_truth.image_truth`. Writes ``patient.json`` and ``roc.png``.
    """

    task = "patient"
    needs = ("instances",)
    levels = (("", "patient"), ("breast_", "breast"), ("image_", "image"))
    keys = ("auc", "sensitivity", "specificity", "accuracy", "pauc_ratio", "spec@sens0.85")

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | os.PathLike | None = None,
        positive_classes: Sequence[str] = (),
        rule: ScoreRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset_name, output_dir)
        self.labels = positive_labels(self.classes, positive_classes)
        self.rule = rule or ScoreRule()
        self.plan = plan

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        data = self.data(records, found)
        scores = max_box_scores(data.detections, len(data.images), self.labels)
        truth = combine_truth(data.images.truth[:, self.labels])
        names = [self.classes[label] for label in self.labels]
        result = Computed(
            options=f"positive classes: {', '.join(names)}; case score: maximum box score over its images; {self.rule}"
        )
        curves, statistics, delong = [], {}, {}
        for prefix, level in self.levels:
            cases = level_cases(data.images, truth, scores, level)
            flat = level_numbers(cases, self.rule, self.keys)
            result.numbers.update({prefix + key: value for key, value in flat.items()})
            if reason := undefined_reason(cases):
                result.reasons.update({prefix + key: reason for key, value in flat.items() if np.isnan(value)})
            curve = roc_curve(score_table(cases.truth, cases.scores))
            curves.append(PlotCurve(f"{level}s (AUC {flat['auc']:.3f})", curve.fpr, curve.tpr))
            statistics[prefix] = ScoreStatistic(cases, self.rule)
            interval = delong_interval(cases.truth, cases.scores, cases.patient, self.plan.confidence)
            delong[prefix + "auc"] = [interval.low, interval.high]
        without = int((~data.images.patient_known).sum())
        if without:
            logger.warning("%d image(s) name no patient_id; each counts as a patient of its own", without)
        result.details = {
            "images_without_patient": without,
            "delong_intervals": delong,
            "intervals": self.intervals(statistics, data.images.patient, truth, self.plan),
            "bootstrap": str(self.plan),
        }
        if self.output_dir is not None:
            plot_roc(curves, self.output_dir / "roc.png", f"ROC, {self.dataset_name}: {' or '.join(names)}")
        return result
