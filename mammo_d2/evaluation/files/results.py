"""Files that the evaluators leave: their names, and entries of COCO detections and lesion scores."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.boxes import XYXY_ABS, xyxy_to_xywh
from mammo_d2.core.files import FileFormatError
from mammo_d2.evaluation.metrics.tables import DetectionTable, ImageTable

#: COCO results in pixels of the prepared images, and in pixels of the original files.
RESULTS_FILE, SOURCE_RESULTS_FILE = "coco_instances_results.json", "coco_instances_results_source.json"
#: [{"image_id", "scores": {class: p}}].
IMAGE_SCORES_FILE = "image_scores.json"
#: [``lesion_entry`` with "truth"].
LESION_SCORES_FILE = "lesion_scores.json"
#: COCO results of the best regions; response maps (C, h, w) float16 in [0, 1] by image id, where there are any.
REGIONS_FILE, MAPS_FILE = "top_regions.json", "response_maps.npz"

#: Every file of predictions, and every curve, that an evaluation may leave.
FILES_OF_PREDICTIONS = (
    RESULTS_FILE, SOURCE_RESULTS_FILE, IMAGE_SCORES_FILE, LESION_SCORES_FILE, REGIONS_FILE, MAPS_FILE,
)  # fmt: skip
FILES_OF_CURVES = ("froc.png", "froc_classified.png", "roc.png", "tnr_fnr.png")


class ResultsError(FileFormatError):
    """A results or ground-truth file that cannot be evaluated; the message names file, entry, field and remedy."""


def detections_to_coco(
    detections: DetectionTable, images: ImageTable, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """COCO results entries (image_id, category_id, bbox XYWH, score), sorted by image row and falling score."""
    order = np.lexsort((-detections.scores, detections.image))
    columns = zip(
        detections.image[order].tolist(),
        detections.label[order].tolist(),
        xyxy_to_xywh(detections.boxes[order]).tolist(),
        detections.scores[order].tolist(),
        strict=True,
    )
    return [
        {"image_id": images.ids[image], "category_id": category_ids[label], "bbox": box, "score": score}
        for image, label, box, score in columns
    ]


def lesion_entry(
    image_id: Hashable, annotation: Mapping[str, Any], malignancy: float, windows: np.ndarray, scores: np.ndarray
) -> dict[str, Any]:
    """Malignancy of a lesion and where it comes from.

    Args:
        image_id: of its image.
        annotation: of a record, with ``bbox`` and perhaps ``id``.
        malignancy: in [0, 1].
        windows: (n, 4) XYXY in pixels of the image.
        scores: (n,) malignancy of the windows.

    Returns:
        ``image_id``; ``annotation_id`` where the annotation has one; ``bbox`` XYWH; ``malignancy``; ``windows``, a list
        of {"bbox" XYWH, "malignancy"}.
    """
    is_xyxy = annotation.get("bbox_mode") == XYXY_ABS
    box = xyxy_to_xywh(annotation["bbox"]) if is_xyxy else np.array(annotation["bbox"], np.float64)
    parts = [
        {"bbox": window, "malignancy": score}
        for window, score in zip(xyxy_to_xywh(windows).tolist(), scores.tolist(), strict=True)
    ]
    number = {} if annotation.get("id") is None else {"annotation_id": annotation["id"]}
    return {
        "image_id": image_id,
        **number,
        "bbox": box.tolist(),
        "malignancy": float(malignancy),
        "windows": parts,
    }
