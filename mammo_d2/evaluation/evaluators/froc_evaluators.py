"""Evaluators of FROC: over all images, and over those that the image scores call positive."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.called_positive import called_positive, only_in
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events, froc_labels
from mammo_d2.evaluation.metrics.detection.froc_curve import summarize_froc
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.scores.levels import combine_truth
from mammo_d2.evaluation.metrics.tables import EvaluationData
from mammo_d2.evaluation.study.plots import PlotCurve, plot_froc


class FrocEvaluator(PredictionEvaluator):
    """FROC per class (and over all classes, ``all/``, where there are several).

    Writes ``froc.png``, and the boxes to ``coco_instances_results.json``.
    """

    task = "froc"
    needs: tuple[str, ...] = ("instances",)

    def __init__(
        self,
        dataset: EvaluatedDataset,
        output_dir: str | os.PathLike | None = None,
        rule: FrocRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset, output_dir)
        self.rule = rule or FrocRule()
        self.plan = plan

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        data = self.data(records, found)
        self.write_detections(data)
        patient = data.images.patient
        result = Computed(options=str(self.rule))
        curves, points, statistics = [], {}, {}
        for label, name in froc_labels(self.classes):
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
            title = f"FROC, {self.dataset.name} ({self.rule.hit})"
            plot_froc(curves, self.output_dir / f"{self.task}.png", title, self.rule.rates, self.rule.recall_unit)
        return result

    def judged(
        self, data: EvaluationData, found: Sequence[Any], label: int | None
    ) -> tuple[EvaluationData, dict[str, Any]]:
        """The data to judge for the curve of a class (None: all), and remarks on it for the JSON file."""
        return data, {}


class ClassifiedFrocEvaluator(FrocEvaluator):
    """FROC in the images that the model's image scores call positive at a sensitivity; ``froc_classified.png``.

    Only images at or above a class's threshold count: recall is that of the true positive images, and regions of other
    images are no false positives, as nobody is shown them. False positives are averaged over all images, as in FROC
    (our choice: the paper does not say).

    Source:
        Bakalo et al., ISBI 2019, section 3 and figure 3: "FROC at 0.85 sensitivity in classification", with recall of
        images.
    """

    task = "froc_classified"
    needs = ("instances", "image_scores")

    def __init__(
        self,
        dataset: EvaluatedDataset,
        output_dir: str | os.PathLike | None = None,
        rule: FrocRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
        sensitivity: float = 0.85,
    ) -> None:
        """
        Args:
            dataset, output_dir, rule, plan: see the base class.
            sensitivity: of the classification of images.

        Raises:
            ValueError: a sensitivity outside (0, 1].
        """
        if not 0 < sensitivity <= 1:
            raise ValueError(f"TEST.FROC.CLASSIFICATION_SENSITIVITY is {sensitivity}; it must lie in (0, 1]")
        super().__init__(dataset, output_dir, rule, plan)
        self.sensitivity = sensitivity

    def keep(self, record: Mapping, output: Mapping) -> tuple:
        """As the base class, and (C,) image scores."""
        return *super().keep(record, output), self.image_scores(record, output)

    def data(self, records: Sequence[Mapping], found: Sequence[Any]) -> EvaluationData:
        return super().data(records, [kept[:3] for kept in found])

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        result = super().compute(records, found)
        result.options += f"; in images called positive at sensitivity {self.sensitivity:g}"
        return result

    def judged(
        self, data: EvaluationData, found: Sequence[Any], label: int | None
    ) -> tuple[EvaluationData, dict[str, Any]]:
        scores = np.array([kept[3] for kept in found], float).reshape(len(found), len(self.classes))
        called, threshold = called_positive(data, scores, label, self.sensitivity)
        return only_in(data, called, label), {"threshold": threshold, "images_called_positive": int(called.sum())}
