"""Evaluators of average precision: COCO's, with the COCO results file, and PASCAL VOC's."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.evaluators.base_evaluator import Computed, PredictionEvaluator
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.files.results import SOURCE_RESULTS_FILE
from mammo_d2.evaluation.files.source_pixels import results_to_source
from mammo_d2.evaluation.metrics.detection.coco_map import coco_average_precision
from mammo_d2.evaluation.metrics.detection.detection_ap import detection_average_precision
from mammo_d2.evaluation.metrics.detection.froc import froc_events
from mammo_d2.evaluation.metrics.detection.presets import PRESETS


class CocoEvaluator(PredictionEvaluator):
    """COCO AP (see ``coco_average_precision``), and the predictions as COCO results files.

    Boxes are in pixels of the prepared images in ``coco_instances_results.json``, and in pixels of the original files
    in ``coco_instances_results_source.json``.
    """

    task = "coco"
    needs = ("instances",)

    def __init__(
        self, dataset: EvaluatedDataset, output_dir: str | os.PathLike | None = None, backend: str = "numpy"
    ) -> None:
        super().__init__(dataset, output_dir)
        self.backend = backend

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        data = self.data(records, found)
        if self.output_dir is not None:
            entries = results_to_source(self.write_detections(data), records)
            write_json(self.output_dir / SOURCE_RESULTS_FILE, entries, indent=None, nan_as_null=True)
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
            values = np.array([detection_average_precision(of_class, PRESETS[preset].ap) for of_class in events])
            result.numbers[key] = float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
            result.numbers.update({f"{name}/{key}": v for name, v in zip(self.classes, values.tolist(), strict=True)})
        result.reasons = {key: "no lesion in the ground truth" for key, v in result.numbers.items() if np.isnan(v)}
        return result
