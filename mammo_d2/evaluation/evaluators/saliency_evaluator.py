"""Evaluator of saliency maps: how well they agree with the findings."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.boxes import boxes_of_annotations
from mammo_d2.core.masks import decode_mask
from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator, to_array
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.localization.saliency_agreement import (
    SaliencySums,
    areas_of_boxes,
    areas_of_mask,
    continuous_sums,
    pointing_game,
    summarize_saliency,
)
from mammo_d2.evaluation.metrics.scores.levels import combine_truth
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic
from mammo_d2.evaluation.metrics.tables import images_from_records

PLACEMENTS = ("published", "receptive_field")


class SaliencyEvaluator(PredictionEvaluator):
    """Continuous precision, recall and F1, and the pointing game, of an image's saliency map (C, h, w).

    A map covers the prepared image. The pointing game judges ``output["saliency"]``, whose cells lie where the network
    looked; precision, recall and F1 the map that ``placement`` names. Only images with a finding of the class count;
    the finding is its segmentation where every annotation has one, else its boxes. Keys: ``<class>/precision`` … The
    numbers of each image are in ``saliency.json`` under "cases".
    """

    task = "saliency"
    needs = ("saliency",)

    def __init__(
        self,
        dataset: EvaluatedDataset,
        output_dir: str | os.PathLike | None = None,
        average: str = "macro",
        tolerance: float = 0.0,
        plan: BootstrapPlan = NO_BOOTSTRAP,
        placement: str = "published",
    ) -> None:
        """
        Args:
            dataset, output_dir: see ``PredictionEvaluator``.
            average: "macro" or "pooled".
            tolerance: of the pointing game, in pixels.
            plan: the bootstrap.
            placement: "published": ``output["network_saliency"]``, the network's own cells stretched over the image,
                where the model gives it; "receptive_field": ``output["saliency"]``.

        Raises:
            ValueError: another placement.
        """
        super().__init__(dataset, output_dir)
        if placement not in PLACEMENTS:
            raise ValueError(f"TEST.SALIENCY.PLACEMENT is {placement!r}; use one of {', '.join(PLACEMENTS)}")
        self.placement = placement
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
        truth = self.dataset.records[self.dataset.rows[record["image_id"]]]
        size = (int(truth["height"]), int(truth["width"]))
        judged = output["saliency"]
        if self.placement == "published":
            judged = output.get("network_saliency", judged)
        kept = {}
        for label in range(len(self.classes)):
            annotations = [a for a in truth["annotations"] if a["category_id"] == label and not a.get("ignore")]
            if not annotations:
                continue
            saliency = to_array(judged[label])
            placed, boxes = to_array(output["saliency"][label]), boxes_of_annotations(annotations)
            if all(a.get("segmentation") for a in annotations):
                mask = np.logical_or.reduce([decode_mask(a["segmentation"], size) for a in annotations])
                areas = areas_of_mask(mask, saliency.shape)
            else:
                areas = areas_of_boxes(boxes, size, saliency.shape)
            kept[label] = (continuous_sums(saliency, areas), pointing_game(placed, boxes, size, self.tolerance))
        return kept

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        result = Computed(
            options=f"continuous precision, recall, F1: {self.average} over images with a finding, nearest upsampling, "
            f"placement {self.placement}; pointing game: tolerance {self.tolerance:g} px; "
            f"intervals of macro averages: {self.plan}"
        )
        images = images_from_records(records, self.classes)
        statistics, cases = {}, {}
        for label, name in enumerate(self.classes):
            rows = np.array([row for row, kept in enumerate(found) if label in kept], np.int64)
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
            cases[name] = {"image_id": [images.ids[row] for row in rows], **dict(zip(keys, table, strict=True))}
            reason = "every map is 0" if kept else "no image with a finding of this class"
            result.reasons.update({f"{name}/{key}": reason for key, value in flat.items() if np.isnan(value)})
        truth = combine_truth(images.truth)
        intervals = self.intervals(statistics, images.patient, truth, self.plan)
        result.details = {"cases": cases, "intervals": intervals}
        return result
