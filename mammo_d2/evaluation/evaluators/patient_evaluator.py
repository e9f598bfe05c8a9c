"""Evaluator of patients, breasts and images by the scores of their boxes."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
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
from mammo_d2.evaluation.study.plots import PlotCurve, plot_roc

logger = logging.getLogger(__name__)


class PatientEvaluator(PredictionEvaluator):
    """Decisions about patients (keys without prefix), breasts (``breast_``) and images (``image_``) from box scores.

    A case is called positive if any of its images has a box of a positive class with score > threshold; AUC ranks the
    cases by their maximum box score (top-likelihood paper). Truth: see
    ``core/image_truth.py``. Writes ``patient.json`` and ``roc.png``.
    """

    task = "patient"
    needs = ("instances",)
    levels = (("", "patient"), ("breast_", "breast"), ("image_", "image"))
    keys = ("auc", "sensitivity", "specificity", "accuracy", "pauc_ratio", "spec@sens0.85")

    def __init__(
        self,
        dataset: EvaluatedDataset,
        output_dir: str | os.PathLike | None = None,
        positive_classes: Sequence[str] = (),
        rule: ScoreRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset, output_dir)
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
            plot_roc(curves, self.output_dir / "roc.png", f"ROC, {self.dataset.name}: {' or '.join(names)}")
        return result
