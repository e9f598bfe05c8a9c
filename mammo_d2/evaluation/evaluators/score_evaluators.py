"""Evaluators of what is not a box: image scores and saliency maps."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator, to_array
from mammo_d2.evaluation.files.results import IMAGE_SCORES_FILE, write_json
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.localization.saliency_agreement import (
    SaliencySums,
    areas_of_boxes,
    areas_of_mask,
    continuous_sums,
    pointing_game,
    summarize_saliency,
)
from mammo_d2.evaluation.metrics.scores.delong import delong_interval
from mammo_d2.evaluation.metrics.scores.levels import combine_truth, level_cases, undefined_reason
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic, ScoreRule, ScoreStatistic, level_numbers
from mammo_d2.evaluation.metrics.tables import XYWH_ABS, images_from_records


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
        dataset_name: str,
        output_dir: str | os.PathLike | None = None,
        aggregate: str = "mean",
        rule: ScoreRule | None = None,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset_name, output_dir)
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
            entries = [{"image_id": i, "scores": one} for i, one in zip(images.ids, named, strict=True)]
            write_json(self.output_dir / IMAGE_SCORES_FILE, entries)
        truth = combine_truth(images.truth)
        result.details = {
            "delong_intervals": delong,
            "intervals": self.intervals(statistics, images.patient, truth, self.plan),
            "bootstrap": str(self.plan),
        }
        return result


class SaliencyEvaluator(PredictionEvaluator):
    """Continuous precision, recall and F1, and the pointing game, of ``output["saliency"]`` (C, h, w).

    The map covers the prepared image. Only images with a finding of the class count; the finding is its segmentation
    where every annotation has one, else its boxes. Keys: ``<class>/precision`` …
    """

    task = "saliency"
    needs = ("saliency",)

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | os.PathLike | None = None,
        average: str = "macro",
        tolerance: float = 0.0,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset_name, output_dir)
        self.average, self.tolerance, self.plan = average, tolerance, plan

    def keep(self, record: Mapping, output: Mapping) -> dict[int, tuple[SaliencySums, float]]:
        """By class with a finding: the sums and the pointing game's result; no map is kept.

        Raises:
            ValueError: no saliency in the output, or not one map per class.
        """
        if "saliency" not in output or len(output["saliency"]) != len(self.classes):
            raise ValueError(
                f'evaluator "saliency" needs output["saliency"] with {len(self.classes)} map(s) '
                f"({', '.join(self.classes)}): change TEST.EVALUATORS or DATASETS.CATEGORIES"
            )
        truth = self._records[self._row[record["image_id"]]]
        size = (int(truth["height"]), int(truth["width"]))
        kept = {}
        for label in range(len(self.classes)):
            annotations = [a for a in truth["annotations"] if a["category_id"] == label and not a.get("ignore")]
            if not annotations:
                continue
            saliency = to_array(output["saliency"][label])
            boxes = np.array([a["bbox"] for a in annotations], float)
            if annotations[0].get("bbox_mode", XYWH_ABS) == XYWH_ABS:
                boxes[:, 2:] += boxes[:, :2]
            if all(a.get("segmentation") for a in annotations):
                areas = areas_of_mask(_mask([a["segmentation"] for a in annotations], size), saliency.shape)
            else:
                areas = areas_of_boxes(boxes, size, saliency.shape)
            kept[label] = (continuous_sums(saliency, areas), pointing_game(saliency, boxes, size, self.tolerance))
        return kept

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        result = Computed(
            options=f"continuous precision, recall, F1: {self.average} over images with a finding, nearest upsampling; "
            f"pointing game: tolerance {self.tolerance:g} px; intervals of macro averages: {self.plan}"
        )
        images = images_from_records(records, self.classes)
        statistics = {}
        for label, name in enumerate(self.classes):
            rows = np.array([row for row, one in enumerate(found) if label in one], np.int64)
            kept = [found[row][label] for row in rows]
            summary = summarize_saliency([sums for sums, _ in kept], self.average)
            flat = {
                "precision": summary.precision,
                "recall": summary.recall,
                "f1": summary.f1,
                "pointing": float(np.mean([point for _, point in kept])) if kept else float("nan"),
                "num_images": float(summary.images),
                "num_images_dark": float(summary.images_without_saliency),
            }
            result.numbers.update({f"{name}/{key}": value for key, value in flat.items()})
            values = [(s.precision, s.recall, s.f1, point) for s, point in kept]
            keys = ["precision", "recall", "f1", "pointing"]
            table = np.array(values, float).reshape(-1, len(keys)).T
            statistics[f"{name}/"] = MeanStatistic(table, keys, images.patient[rows])
            reason = "every map is 0" if kept else "no image with a finding of this class"
            result.reasons.update({f"{name}/{key}": reason for key, value in flat.items() if np.isnan(value)})
        truth = combine_truth(images.truth)
        result.details = {"intervals": self.intervals(statistics, images.patient, truth, self.plan)}
        return result


def _mask(segmentations: Sequence[Any], size: tuple[int, int]) -> np.ndarray:
    """(H, W) bool union of COCO segmentations (polygons or RLE)."""
    from pycocotools import mask as coco_mask

    union = np.zeros(size, bool)
    for segmentation in segmentations:
        if isinstance(segmentation, list):
            rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        elif isinstance(segmentation["counts"], list):
            rle = coco_mask.frPyObjects(segmentation, *size)
        else:
            rle = segmentation
        union |= coco_mask.decode(rle).astype(bool)
    return union
