"""Evaluator of weak localisation: the best regions of each class, kept for pictures, and how often they hit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.files import atomic_write, write_json
from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.files.results import MAPS_FILE, REGIONS_FILE, detections_to_coco
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class, first_hit_ranks
from mammo_d2.evaluation.metrics.scores.levels import combine_truth
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic


class RegionEvaluator(PredictionEvaluator):
    """Part of the images with a lesion of a class in which one of the best n regions of the class hits it.

    Keys: ``<class>/hit@1`` … ``<class>/hit@<top>`` and ``<class>/num_images``. Writes the regions and, of models that
    have them, the response maps (``output["saliency"]``), from which the report draws its pictures.
    """

    task = "regions"
    needs = ("instances",)

    def __init__(
        self,
        dataset: EvaluatedDataset,
        output_dir: str | os.PathLike | None = None,
        rule: HitRule | None = None,
        top: int = 3,
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        """
        Args:
            dataset, output_dir: see the base class.
            rule: when a region hits a lesion.
            top: regions of each class and image.
            plan: the bootstrap.

        Raises:
            ValueError: ``top`` is not positive.
        """
        if top < 1:
            raise ValueError(f"TEST.REGIONS.TOP is {top}; it must be at least 1")
        super().__init__(dataset, output_dir)
        self.rule, self.top, self.plan = rule or HitRule(), top, plan

    def keep(self, record: Mapping, output: Mapping) -> tuple:
        """(boxes, scores, classes) of the best regions, and the response map or None."""
        boxes, scores, labels = super().keep(record, output)
        rows = best_of_each_class(scores, labels, self.top)
        maps = output.get("saliency")
        if maps is not None:
            maps = maps.detach().float().cpu().numpy().astype(np.float16)
        return (boxes[rows], scores[rows], labels[rows]), maps

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        data = self.data(records, [regions for regions, _ in found])
        ranks = first_hit_ranks(data, self.rule)
        result = Computed(options=f"the best {self.top} regions of each class and image; {self.rule}")
        statistics = {}
        for label, name in enumerate(self.classes):
            known = np.flatnonzero(~np.isnan(ranks[:, label]))
            keys = [f"hit@{n}" for n in range(1, self.top + 1)]
            hits = np.array([ranks[known, label] <= n for n in range(1, self.top + 1)], float)
            means = hits.mean(axis=1).tolist() if len(known) else [float("nan")] * self.top
            result.numbers.update({f"{name}/{key}": value for key, value in zip(keys, means, strict=True)})
            result.numbers[f"{name}/num_images"] = float(len(known))
            if not len(known):
                result.reasons.update({f"{name}/{key}": "no image with a lesion of this class" for key in keys})
            statistics[f"{name}/"] = MeanStatistic(hits, keys, data.images.patient[known])
        truth = combine_truth(data.images.truth)
        result.details = {
            "intervals": self.intervals(statistics, data.images.patient, truth, self.plan),
            "bootstrap": str(self.plan),
        }
        if self.output_dir is not None:
            entries = detections_to_coco(data.detections, data.images, self.dataset.category_ids)
            write_json(self.output_dir / REGIONS_FILE, entries, indent=None, nan_as_null=True)
            maps = {str(i): one for i, (_, one) in zip(data.images.ids, found, strict=True) if one is not None}
            if maps:
                with atomic_write(self.output_dir / MAPS_FILE) as stream:
                    np.savez_compressed(stream, **maps)
        return result
