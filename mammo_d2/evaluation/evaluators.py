"""The framework's face of the metrics: evaluators that a trainer runs, chosen by TEST.EVALUATORS.

Each evaluator keeps small numpy arrays per image, gathers them over the ranks, counts every image once, and returns
``{task: {key: number}}`` with keys that are always present (NaN where undefined; the reason is logged and written to
the task's JSON file). All numbers are fractions, not percent.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.evaluation.classification import combine_truth, level_cases, max_box_scores, summarize_level
from mammo_d2.evaluation.coco_map import coco_average_precision
from mammo_d2.evaluation.curves import roc_curve, score_table
from mammo_d2.evaluation.froc import FrocRule, froc_events
from mammo_d2.evaluation.froc_curve import summarize_froc
from mammo_d2.evaluation.matching import HitRule
from mammo_d2.evaluation.plots import PlotCurve, plot_froc, plot_roc
from mammo_d2.evaluation.results_io import RESULTS_FILE, detections_to_coco, write_json
from mammo_d2.evaluation.tables import (
    DetectionTable,
    EvaluationData,
    empty_detections,
    images_from_records,
    lesions_from_records,
)
from mammo_d2.framework import (
    CfgNode,
    DatasetCatalog,
    DatasetEvaluator,
    DatasetEvaluators,
    MetadataCatalog,
    Registry,
    comm,
)

logger = logging.getLogger(__name__)

EVALUATOR_REGISTRY = Registry("EVALUATOR")
EVALUATOR_REGISTRY.__doc__ = """Builders by the name used in TEST.EVALUATORS.

An entry is called as ``builder(cfg, dataset_name, output_dir)`` and returns a DatasetEvaluator.
"""


def build_evaluators(cfg: CfgNode, dataset_name: str, output_dir: str | os.PathLike | None) -> DatasetEvaluators:
    """The evaluators named in TEST.EVALUATORS for one data set.

    Args:
        cfg: the config.
        dataset_name: a registered data set with ``thing_classes`` in its metadata.
        output_dir: folder for JSON files and curves; None writes nothing.
    """
    known = {name for name, _ in EVALUATOR_REGISTRY}
    unknown = [name for name in cfg.TEST.EVALUATORS if name not in known]
    if unknown:
        raise ValueError(f"TEST.EVALUATORS names {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    return DatasetEvaluators(
        [EVALUATOR_REGISTRY.get(name)(cfg, dataset_name, output_dir) for name in cfg.TEST.EVALUATORS]
    )


class PredictionEvaluator(DatasetEvaluator):
    """Collects detections over the ranks and hands them, with the ground truth, to :meth:`compute`.

    Subclasses set ``task`` and implement ``compute(data) -> (numbers, reasons, details)``.
    """

    task = ""

    def __init__(self, dataset_name: str, output_dir: str | os.PathLike | None = None) -> None:
        self.dataset_name = dataset_name
        self.output_dir = None if output_dir is None else Path(output_dir)
        metadata = MetadataCatalog.get(dataset_name)
        self.classes = tuple(metadata.thing_classes)
        to_contiguous = getattr(metadata, "thing_dataset_id_to_contiguous_id", None)
        # Several dataset categories may be one class (DATASETS.MERGE_CATEGORIES); results name the first of them.
        from_contiguous: dict[int, int] = {}
        for dataset_id, number in (to_contiguous or {n + 1: n for n in range(len(self.classes))}).items():
            from_contiguous.setdefault(number, dataset_id)
        self.category_ids = [from_contiguous[number] for number in range(len(self.classes))]
        self._records: list[dict] = DatasetCatalog.get(dataset_name)
        self._row = {record["image_id"]: row for row, record in enumerate(self._records)}
        self.reset()

    def reset(self) -> None:
        self._found: dict[int, Any] = {}

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Keep what the metric needs of each image.

        Raises:
            ValueError: an image id that the data set does not have.
        """
        for record, output in zip(inputs, outputs, strict=True):
            row = self._row.get(record["image_id"])
            if row is None:
                raise ValueError(
                    f"image_id {record['image_id']!r} is not in data set {self.dataset_name!r}: "
                    "evaluate the predictions on the data set they were made for"
                )
            self._found[row] = self.keep(record, output)

    def keep(self, record: Mapping, output: Mapping) -> Any:
        """What to remember of one image: (boxes (n, 4) float32 XYXY, scores (n,), classes (n,)) as numpy."""
        instances = output["instances"]
        return (
            instances.pred_boxes.tensor.detach().cpu().numpy(),
            instances.scores.detach().cpu().numpy(),
            instances.pred_classes.detach().cpu().numpy(),
        )

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
            logger.warning("Evaluator %r of %s saw no image", self.task, self.dataset_name)
        elif len(rows) < len(self._records):
            logger.warning(
                "%d of the %d images of %s were predicted; %s is about those",
                len(rows), len(self._records), self.dataset_name, self.task,
            )  # fmt: skip
        records = [self._records[row] for row in rows]
        numbers, reasons, details = self.compute(records, [found[row] for row in rows])
        numbers = {key: float(value) for key, value in numbers.items()}
        if self.output_dir is not None:
            content = {"dataset": self.dataset_name, "num_images": len(rows), "metrics": numbers, "reasons": reasons}
            write_json(self.output_dir / f"{self.task}.json", {**content, **details})
        self._print(numbers, reasons, details)
        return {self.task: numbers}

    def compute(
        self, records: Sequence[Mapping], found: Sequence[Any]
    ) -> tuple[dict[str, float], dict[str, str], dict[str, Any]]:
        """Metrics of the predicted images.

        Args:
            records: dataset records of the predicted images.
            found: what :meth:`keep` returned for each of them.

        Returns:
            numbers by key, reasons by key for the NaNs, and more for the JSON file (``"options"``: a line in words).
        """
        raise NotImplementedError

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

    def _print(self, numbers: Mapping[str, float], reasons: Mapping[str, str], details: Mapping[str, Any]) -> None:
        table = tabulate(
            [(key, f"{value:.4g}") for key, value in numbers.items()], headers=(self.task, self.dataset_name)
        )
        logger.info("%s\n%s", details.get("options", ""), table)
        for reason in sorted(set(reasons.values())):
            keys = [key for key in reasons if reasons[key] == reason]
            logger.info("%s: %s", ", ".join(keys[:4]) + (" ..." if len(keys) > 4 else ""), reason)


class CocoEvaluator(PredictionEvaluator):
    """COCO AP (see :func:`coco_average_precision`), and the predictions as a COCO results file."""

    task = "coco"

    def __init__(self, dataset_name: str, output_dir: str | os.PathLike | None = None, backend: str = "numpy") -> None:
        super().__init__(dataset_name, output_dir)
        self.backend = backend

    def compute(self, records, found):
        data = self.data(records, found)
        if self.output_dir is not None:
            entries = detections_to_coco(data.detections, data.images, self.category_ids)
            write_json(self.output_dir / RESULTS_FILE, entries)
        summary = coco_average_precision(data, self.backend)
        return dict(summary.numbers), dict(summary.reasons), {"options": summary.options}


class FrocEvaluator(PredictionEvaluator):
    """FROC per class (and over all classes as one, ``all/``, where there are several); ``froc.png``."""

    task = "froc"

    def __init__(
        self, dataset_name: str, output_dir: str | os.PathLike | None = None, rule: FrocRule | None = None
    ) -> None:
        super().__init__(dataset_name, output_dir)
        self.rule = rule or FrocRule()

    def compute(self, records, found):
        data = self.data(records, found)
        numbers: dict[str, float] = {}
        reasons: dict[str, str] = {}
        details: dict[str, Any] = {"options": str(self.rule), "curves": {}}
        lines = []
        kinds: list[tuple[str, int | None]] = [(name, number) for number, name in enumerate(self.classes)]
        for name, label in kinds if len(kinds) == 1 else [*kinds, ("all", None)]:
            summary = summarize_froc(froc_events(data, self.rule, label), self.rule)
            flat = {f"{name}/{key}": value for key, value in summary.flat().items()}
            numbers.update(flat)
            if summary.reason:
                reasons.update({key: summary.reason for key, value in flat.items() if np.isnan(value)})
            details["curves"][name] = {
                "points": [vars(point) for point in summary.points],
                "images_counted": summary.num_images,
                "false_positives": summary.num_false_positives,
            }
            lines.append(PlotCurve(name, summary.curve.fp_per_image, summary.curve.sensitivity))
        if self.output_dir is not None:
            title = f"FROC, {self.dataset_name} ({self.rule.hit})"
            plot_froc(lines, self.output_dir / "froc.png", title, self.rule.rates, self.rule.recall_unit)
        return numbers, reasons, details


def froc_rule_from_config(cfg: CfgNode) -> FrocRule:
    """The FROC options of TEST.FROC."""
    keys = cfg.TEST.FROC
    return FrocRule(
        hit=HitRule(keys.HIT, keys.THRESHOLD, keys.STRICT),
        matching=keys.MATCHING,
        extra_hits=keys.EXTRA_HITS,
        fp_images=keys.FP_IMAGES,
        recall_unit=keys.RECALL_OF,
        interpolation=keys.INTERPOLATION,
        rates=tuple(keys.RATES),
    )


class PatientEvaluator(PredictionEvaluator):
    """Decisions about patients (keys without prefix), breasts (``breast_``) and images (``image_``) from box scores.

    A case is called positive if any of its images has a box of a positive class with score > threshold; AUC ranks the
    cases by their maximum box score (top-likelihood paper). Truth: see
    :func:`mammo_d2.evaluation.tables.image_truth`. Writes ``patient.json`` and ``roc.png``.
    """

    task = "patient"
    levels = (("", "patient"), ("breast_", "breast"), ("image_", "image"))

    def __init__(
        self,
        dataset_name: str,
        output_dir: str | os.PathLike | None = None,
        positive_classes: Sequence[str] = (),
        threshold: float = 0.5,
        strict: bool = True,
    ) -> None:
        super().__init__(dataset_name, output_dir)
        unknown = [name for name in positive_classes if name not in self.classes]
        if unknown:
            raise ValueError(
                f"TEST.PATIENT.POSITIVE_CLASSES names {', '.join(unknown)}; "
                f"the classes of {dataset_name!r} are {', '.join(self.classes)}"
            )
        default = ("malignant",) if "malignant" in self.classes else self.classes
        self.positive_classes = tuple(positive_classes) or default
        self.threshold, self.strict = threshold, strict

    def compute(self, records, found):
        data = self.data(records, found)
        labels = [self.classes.index(name) for name in self.positive_classes]
        scores = max_box_scores(data.detections, len(data.images), labels)
        truth = combine_truth(data.images.truth[:, labels])
        numbers: dict[str, float] = {}
        reasons: dict[str, str] = {}
        lines = []
        for prefix, level in self.levels:
            cases = level_cases(data.images, truth, scores, level)
            flat, reason = summarize_level(cases, self.threshold, self.strict)
            numbers.update({prefix + key: value for key, value in flat.items()})
            if reason:
                reasons.update({prefix + key: reason for key, value in flat.items() if np.isnan(value)})
            curve = roc_curve(score_table(cases.truth, cases.scores))
            lines.append(PlotCurve(f"{level}s (AUC {flat['auc']:.3f})", curve.fpr, curve.tpr))
        if self.output_dir is not None:
            title = f"ROC, {self.dataset_name}: {' or '.join(self.positive_classes)}"
            plot_roc(lines, self.output_dir / "roc.png", title)
        without = int((~data.images.patient_known).sum())
        if without:
            logger.warning("%d image(s) name no patient_id; each counts as a patient of its own", without)
        options = (
            f"positive classes: {', '.join(self.positive_classes)}; case score: maximum box score over its images; "
            f"called positive at score {'>' if self.strict else '>='} {self.threshold:g}; cases of unknown truth masked"
        )
        return numbers, reasons, {"options": options, "images_without_patient": without}


@EVALUATOR_REGISTRY.register()
def coco(cfg: CfgNode, dataset_name: str, output_dir: str | os.PathLike | None) -> CocoEvaluator:
    """Average precision, and the COCO results file."""
    return CocoEvaluator(dataset_name, output_dir, cfg.TEST.COCO.BACKEND)


@EVALUATOR_REGISTRY.register()
def froc(cfg: CfgNode, dataset_name: str, output_dir: str | os.PathLike | None) -> FrocEvaluator:
    """Sensitivity at false positives per image."""
    return FrocEvaluator(dataset_name, output_dir, froc_rule_from_config(cfg))


@EVALUATOR_REGISTRY.register()
def patient(cfg: CfgNode, dataset_name: str, output_dir: str | os.PathLike | None) -> PatientEvaluator:
    """Decisions about patients, breasts and images from box scores."""
    keys = cfg.TEST.PATIENT
    return PatientEvaluator(dataset_name, output_dir, keys.POSITIVE_CLASSES, keys.THRESHOLD, keys.STRICT)
