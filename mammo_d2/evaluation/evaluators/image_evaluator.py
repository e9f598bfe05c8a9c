"""Evaluator of image scores: images, breasts, exams and patients, class by class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.files.results import IMAGE_SCORES_FILE
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.scores.delong import delong_interval
from mammo_d2.evaluation.metrics.scores.levels import combine_truth, level_cases, undefined_reason
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic, level_numbers
from mammo_d2.evaluation.metrics.tables import images_from_records


class ImageScoreEvaluator(PredictionEvaluator):
    """Classification by ``output["image_scores"]`` ({class: probability}) at image, breast, exam and patient level.

    Writes ``image.json``, and the scores themselves to ``image_scores.json``: [{"image_id", "scores": {class: p}}].
    Keys are ``<class>/<metric>`` at image level and ``<class>/breast_<metric>`` … above it; with several classes also
    ``any/…``, scored by the maximum over the classes (dual-branch paper: "MB vs N").
    """

    task = "image"
    needs = ("image_scores",)
    levels = (("", "image"), ("breast_", "breast"), ("exam_", "exam"), ("patient_", "patient"))
    keys = ("auc", "pauc_ratio", "spec@sens0.85", "sensitivity", "specificity", "accuracy", "ap", "pf1")

    def __init__(
        self,
        dataset: EvaluatedDataset,
        output_dir: str | os.PathLike | None = None,
        aggregate: str = "mean",
        rule: ScoreRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset, output_dir)
        self.aggregate, self.rule, self.plan = aggregate, rule or ScoreRule(), plan

    def keep(self, record: Mapping, output: Mapping) -> np.ndarray:
        """(C,) scores in class order."""
        return self.image_scores(record, output)

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        images = images_from_records(records, self.classes)
        scores = np.array(found, float).reshape(len(found), len(self.classes))
        columns = {name: (images.truth[:, k], scores[:, k]) for k, name in enumerate(self.classes)}
        if len(self.classes) > 1:
            columns["any"] = (combine_truth(images.truth), scores.max(axis=1, initial=0.0))
        result = Computed(options=f"scores of a case: {self.aggregate} over its images; {self.rule}")
        statistics, delong, rows = {}, {}, []
        for name, (truth, score) in columns.items():
            for prefix, level in self.levels:
                cases = level_cases(images, truth, score, level, self.aggregate)
                flat = level_numbers(cases, self.rule, self.keys)
                full = f"{name}/{prefix}"
                result.numbers.update({full + key: value for key, value in flat.items()})
                if reason := undefined_reason(cases):
                    result.reasons.update({full + key: reason for key, value in flat.items() if np.isnan(value)})
                statistics[full] = ScoreStatistic(cases, self.rule)
                interval = delong_interval(cases.truth, cases.scores, cases.patient, self.plan.confidence)
                delong[full + "auc"] = [interval.low, interval.high]
                rows.append([f"{name}, {level}s", *(f"{flat[key]:.4g}" for key in self.keys)])
        result.table = tabulate(rows, headers=("", *self.keys))
        if self.output_dir is not None:
            named = [dict(zip(self.classes, row, strict=True)) for row in scores.tolist()]
            entries = [{"image_id": i, "scores": by_class} for i, by_class in zip(images.ids, named, strict=True)]
            write_json(self.output_dir / IMAGE_SCORES_FILE, entries, indent=None, nan_as_null=True)
        truth = combine_truth(images.truth)
        result.details = {
            "delong_intervals": delong,
            "intervals": self.intervals(statistics, images.patient, truth, self.plan),
            "bootstrap": str(self.plan),
        }
        return result
