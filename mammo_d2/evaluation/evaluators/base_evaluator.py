"""What all evaluators share: collecting outputs over the ranks, counting every image once, writing and printing."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.files.results import RESULTS_FILE, detections_to_coco
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan, Statistic, bootstrap, percentile_interval
from mammo_d2.evaluation.metrics.scores.levels import aggregate_truth
from mammo_d2.evaluation.metrics.tables import (
    DetectionTable,
    EvaluationData,
    empty_detections,
    images_from_records,
    lesions_from_records,
)
from mammo_d2.framework import DatasetEvaluator, comm

logger = logging.getLogger(__name__)

NO_BOOTSTRAP = BootstrapPlan(replicates=0)


@dataclass
class Computed:
    """Result of an evaluator.

    Attributes:
        numbers: by key.
        reasons: why a number is NaN, by key.
        options: the options used, in words.
        details: more for the JSON file.
        table: the printed table; empty: one row per number.
    """

    numbers: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    options: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    table: str = ""


def to_array(value: Any) -> np.ndarray:
    """A torch tensor, number or array as float64 numpy."""
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value, float)


class PredictionEvaluator(DatasetEvaluator):
    """Collects detections over the ranks and hands them, with the ground truth, to ``compute``.

    Subclasses set ``task``, implement ``compute``, and may keep something else of an output in ``keep``.

    Attributes:
        task: name of the results, and of the evaluator in TEST.EVALUATORS.
        needs: keys that the model's output must have.
    """

    task = ""
    needs: tuple[str, ...] = ()

    def __init__(self, dataset: EvaluatedDataset, output_dir: str | os.PathLike | None = None) -> None:
        """
        Args:
            dataset: ground truth, loaded once for all evaluators.
            output_dir: folder of the files to write; None writes nothing.

        Raises:
            TypeError: the name of a data set in place of the loaded one.
        """
        if isinstance(dataset, str):
            raise TypeError(
                f"{type(self).__name__} needs the loaded data set, not its name: EvaluatedDataset.load({dataset!r})"
            )
        self.dataset = dataset
        self.classes = dataset.classes
        self.output_dir = None if output_dir is None else Path(output_dir)
        self.reset()

    def reset(self) -> None:
        self._found: dict[int, Any] = {}

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Keep what the metric needs of each image.

        Raises:
            ValueError: an image id that the data set does not have.
        """
        for record, output in zip(inputs, outputs, strict=True):
            row = self.dataset.rows.get(record["image_id"])
            if row is None:
                raise ValueError(
                    f"image_id {record['image_id']!r} is not in data set {self.dataset.name!r}: "
                    "evaluate the predictions on the data set they were made for"
                )
            self._found[row] = self.keep(record, output)

    def keep(self, record: Mapping, output: Mapping) -> Any:
        """What ``compute`` needs of one image: (boxes (n, 4) float32 XYXY, scores (n,), classes (n,)) as numpy."""
        instances = output["instances"]
        return (
            instances.pred_boxes.tensor.detach().cpu().numpy(),
            instances.scores.detach().cpu().numpy(),
            instances.pred_classes.detach().cpu().numpy(),
        )

    def image_scores(self, record: Mapping, output: Mapping) -> np.ndarray:
        """(C,) scores of one image in class order.

        Raises:
            ValueError: no score for a class, or one that is not finite.
        """
        scores = output.get("image_scores", {})
        missing = [name for name in self.classes if name not in scores]
        if missing:
            raise ValueError(
                f'evaluator "{self.task}" needs image_scores of {", ".join(self.classes)}; the model gives '
                f"{', '.join(scores) or 'none'}: change TEST.EVALUATORS or DATASETS.CATEGORIES"
            )
        values = np.array([float(to_array(scores[name])) for name in self.classes])
        if not np.isfinite(values).all():
            raise ValueError(f"image score of image {record['image_id']!r} is not finite: the model has diverged")
        return values

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Gather, compute on the main process, write ``<task>.json``, print a table.

        Returns:
            ``{task: {key: number}}`` on the main process, an empty dict elsewhere.
        """
        comm.synchronize()
        parts = comm.gather(self._found, dst=0)
        if not comm.is_main_process():
            return {}
        found: dict[int, Any] = {}
        for part in parts:  # a sampler that pads its last batch sends an image to two ranks
            found.update(part)
        rows = sorted(found)
        if not rows:
            logger.warning("Evaluator %r of %s saw no image", self.task, self.dataset.name)
        elif len(rows) < len(self.dataset.records):
            logger.warning(
                "%d of the %d images of %s were predicted; %s is about those",
                len(rows), len(self.dataset.records), self.dataset.name, self.task,
            )  # fmt: skip
        records = [self.dataset.records[row] for row in rows]
        result = self.compute(records, [found[row] for row in rows])
        numbers = {key: float(value) for key, value in result.numbers.items()}
        if self.output_dir is not None:
            content = {
                "dataset": self.dataset.name,
                "num_images": len(rows),
                "options": result.options,
                "metrics": numbers,
                "reasons": result.reasons,
            }
            write_json(self.output_dir / f"{self.task}.json", {**content, **result.details}, indent=2, nan_as_null=True)
        self._print(numbers, result)
        return {self.task: numbers}

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        """Metrics of the predicted images.

        Args:
            records: dataset records of the predicted images.
            found: what ``keep`` returned for each of them.
        """
        raise NotImplementedError

    def intervals(
        self, statistics: Mapping[str, Statistic], patient: np.ndarray, truth: np.ndarray, plan: BootstrapPlan
    ) -> dict[str, list[float]]:
        """Bootstrap intervals [low, high] by ``prefix + key``; empty without replicates.

        Args:
            statistics: by prefix.
            patient: (N,) patient of each image.
            truth: (N,) image truth, by which patients are stratified.
            plan: the bootstrap.
        """
        if not plan.replicates:
            return {}
        strata = np.nan_to_num(aggregate_truth(truth, patient), nan=2.0)
        values = bootstrap(statistics, int(patient.max(initial=-1)) + 1, plan, strata)
        limits = {}
        for prefix, statistic in statistics.items():
            for key, row in zip(statistic.keys, values[prefix], strict=True):
                interval = percentile_interval(row, plan.confidence)
                limits[prefix + key] = [interval.low, interval.high]
        return limits

    def data(self, records: Sequence[Mapping], found: Sequence[Any]) -> EvaluationData:
        """Tables of the predicted images.

        Raises:
            ValueError: a score or box is NaN or infinite.
        """
        counts = [len(scores) for _, scores, _ in found]
        detections = empty_detections()
        if sum(counts):
            detections = DetectionTable(
                boxes=np.concatenate([boxes for boxes, _, _ in found]).astype(float),
                scores=np.concatenate([scores for _, scores, _ in found]).astype(float),
                image=np.repeat(np.arange(len(found)), counts),
                label=np.concatenate([classes for _, _, classes in found]).astype(np.int64),
            )
        bad = ~(np.isfinite(detections.scores) & np.isfinite(detections.boxes).all(axis=1))
        if bad.any():
            image_id = records[int(detections.image[bad][0])]["image_id"]
            raise ValueError(
                f"{int(bad.sum())} predicted box(es) or score(s) are NaN or infinite, the first in image {image_id!r}: "
                "the model has diverged or its weights are damaged"
            )
        return EvaluationData(images_from_records(records, self.classes), lesions_from_records(records), detections)

    def write_detections(self, data: EvaluationData) -> list[dict[str, Any]]:
        """Write the boxes as COCO results in pixels of the prepared images, if there is a folder.

        Returns:
            The entries.
        """
        entries = detections_to_coco(data.detections, data.images, self.dataset.category_ids)
        if self.output_dir is not None:
            write_json(self.output_dir / RESULTS_FILE, entries, indent=None, nan_as_null=True)
        return entries

    def _print(self, numbers: Mapping[str, float], result: Computed) -> None:
        rows = [(key, f"{value:.4g}") for key, value in numbers.items()]
        table = result.table or tabulate(rows, headers=(self.task, self.dataset.name))
        logger.info("%s\n%s", result.options, table)
        for reason in sorted(set(result.reasons.values())):
            keys = [key for key in result.reasons if result.reasons[key] == reason]
            logger.info("%s: %s", ", ".join(keys[:4]) + (" ..." if len(keys) > 4 else ""), reason)
