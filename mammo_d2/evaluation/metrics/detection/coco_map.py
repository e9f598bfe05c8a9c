"""COCO average precision and recall as named numbers, without the usual cap on detections per image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mammo_d2.core.boxes import xyxy_to_xywh
from mammo_d2.evaluation.metrics.detection.coco_arrays import AREAS, RECALL_LIMITS, CocoArrays, coco_arrays
from mammo_d2.evaluation.metrics.tables import EvaluationData

BACKENDS = ("numpy", "pycocotools", "faster_coco_eval")


@dataclass(frozen=True)
class CocoSummary:
    """``numbers``: flat metrics as fractions in [0, 1] (NaN where undefined); ``reasons``: why, per metric;
    ``options``: the options used, in words."""

    numbers: Mapping[str, float]
    reasons: Mapping[str, str]
    options: str


def _tools(backend: str):
    """(COCO class, COCOeval class) of a reference implementation."""
    if backend == "faster_coco_eval":
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval


def _dataset(data: EvaluationData) -> dict:
    lesions = data.lesions
    columns = zip(
        xyxy_to_xywh(lesions.boxes).tolist(),
        lesions.image.tolist(),
        lesions.label.tolist(),
        lesions.area.tolist(),
        (lesions.crowd | lesions.ignore).tolist(),
        strict=True,
    )
    return {
        "info": {},
        "images": [{"id": row} for row in range(len(data.images))],
        "categories": [{"id": number, "name": name} for number, name in enumerate(data.images.classes)],
        # pycocotools never matches annotation id 0. An excused finding is a crowd region to COCO: it may be hit.
        "annotations": [
            {"id": n, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for n, (box, image, label, area, crowd) in enumerate(columns, start=1)
        ],
    }


def _detections(data: EvaluationData) -> list[dict]:
    detections = data.detections
    boxes = xyxy_to_xywh(detections.boxes)
    columns = zip(
        boxes.tolist(), detections.image.tolist(), detections.label.tolist(), detections.scores.tolist(), strict=True
    )
    return [
        {
            "id": n,
            "image_id": image,
            "category_id": label,
            "bbox": box,
            "score": score,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for n, (box, image, label, score) in enumerate(columns, start=1)
    ]


def _reference_arrays(data: EvaluationData, backend: str, most: int) -> CocoArrays:
    """The arrays of ``coco_arrays`` by a reference implementation, with a cap that drops nothing."""
    coco_class, eval_class = _tools(backend)
    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = coco_class(), coco_class()
        truth.dataset = _dataset(data)
        truth.createIndex()
        found.dataset = {**truth.dataset, "annotations": _detections(data)}
        found.createIndex()
        run = eval_class(truth, found, iouType="bbox")
        run.params.maxDets = [*RECALL_LIMITS, max(most, *RECALL_LIMITS)]
        run.evaluate()
        run.accumulate()
    recall = run.eval["recall"]
    return CocoArrays(run.eval["precision"][..., -1], recall[..., -1], recall[..., :-1])


def coco_average_precision(data: EvaluationData, backend: str = "numpy") -> CocoSummary:
    """COCO's average precision and recall.

    Formula: per class and IoU threshold, detections are matched greedily by falling score (IoU >= threshold), precision
    is made monotone and sampled at the 101 recalls 0, 0.01, …, 1; AP is the mean of the samples, averaged over the
    classes that have a lesion and, for "AP", over the thresholds 0.50, 0.55, …, 0.95. Source: Lin et al. 2014 and the
    COCO evaluation page. It differs from VOC 2007 (11 recalls) and VOC 2010 (area under the exact step curve). Images
    without lesions count: their detections are false positives.

    The usual summary keeps the 100 best detections per image and prints "maxDets=100"; here nothing is dropped. Areas
    for APs, APm, APl are COCO's 32² and 96² pixels. A finding marked ``ignore`` is treated as a crowd region.

    Args:
        data: images, lesions and detections.
        backend: "numpy" (this package's, fastest), or the reference "pycocotools" or "faster_coco_eval" (installed
            separately). They give the same numbers.

    Returns:
        AP, AP50, AP75, APs, APm, APl, AR and the same per class as ``<class>/AP`` … with NaN where no lesion exists.
        AR is of all detections; AR1, AR10, AR100 and, by size, ARs, ARm, ARl are those of COCO's summary: of the 1, 10
        and 100 best detections per image and class, by size of 100.

    Raises:
        ValueError: an unknown backend.
    """
    if backend not in BACKENDS:
        raise ValueError(f"COCO backend {backend!r} is none of {', '.join(BACKENDS)}")
    limit = int(np.bincount(data.detections.image, minlength=1).max()) if len(data.detections) else 1
    arrays = coco_arrays(data) if backend == "numpy" else _reference_arrays(data, backend, limit)
    precision, recall = arrays.precision, arrays.recall

    def mean(values: np.ndarray) -> float:
        values = values[values > -1]
        return float(values.mean()) if values.size else float("nan")

    numbers: dict[str, float] = {}
    selections = [("", slice(None))] + [(f"{c}/", slice(k, k + 1)) for k, c in enumerate(data.images.classes)]
    for prefix, k in selections:
        numbers[f"{prefix}AP"] = mean(precision[:, :, k, 0])
        numbers[f"{prefix}AP50"] = mean(precision[0, :, k, 0])
        numbers[f"{prefix}AP75"] = mean(precision[5, :, k, 0])
        for area, suffix in enumerate(AREAS):
            if suffix:
                numbers[f"{prefix}AP{suffix}"] = mean(precision[:, :, k, area])
        numbers[f"{prefix}AR"] = mean(recall[:, k, 0])
        for number, most in enumerate(RECALL_LIMITS):
            numbers[f"{prefix}AR{most}"] = mean(arrays.recall_of_best[:, k, 0, number])
        for area, suffix in enumerate(AREAS):
            if suffix:
                numbers[f"{prefix}AR{suffix}"] = mean(arrays.recall_of_best[:, k, area, -1])
    reasons = {key: "no lesion of this class and size in the ground truth" for key, v in numbers.items() if np.isnan(v)}
    options = f"COCO AP by {backend}: IoU 0.50:0.05:0.95, 101 recalls, all detections per image (most: {limit})"
    return CocoSummary(numbers, reasons, options)
