"""What the pictures of a report have in common: an evaluation as tables, the choice of images, their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, images_from_records, lesions_from_records


def evaluation_data(
    records: Sequence[Mapping], classes: Sequence[str], predictions: Sequence[Mapping], class_of: Mapping[int, int]
) -> EvaluationData:
    """Tables of a data set and its COCO results.

    Args:
        records: dataset records.
        classes: class names.
        predictions: COCO results in the pixels of the records.
        class_of: {JSON category id: class}.

    Raises:
        ResultsError: an entry of an unknown image or category.
    """
    rows = {record["image_id"]: row for row, record in enumerate(records)}
    for number, entry in enumerate(predictions):
        if entry["image_id"] not in rows or entry["category_id"] not in class_of:
            raise ResultsError(
                f"results entry {number}: image_id {entry['image_id']!r} or category_id {entry['category_id']!r} is "
                "not in the data set; the data set has changed since the evaluation, evaluate again"
            )
    detections = DetectionTable(
        xywh_to_xyxy([entry["bbox"] for entry in predictions]).reshape(-1, 4),
        np.array([entry["score"] for entry in predictions], np.float64),
        np.array([rows[entry["image_id"]] for entry in predictions], np.int64),
        np.array([class_of[entry["category_id"]] for entry in predictions], np.int64),
    )
    return EvaluationData(images_from_records(records, classes), lesions_from_records(records), detections)


def describe_image(record: Mapping[str, Any]) -> str:
    """Image id, patient, laterality and view, as far as the record has them."""
    parts = [f"image {record['image_id']}"]
    if record.get("patient_id") is not None:
        parts.append(f"patient {record['patient_id']}")
    side = " ".join(str(record[key]) for key in ("laterality", "view") if record.get(key))
    return ", ".join([*parts, side] if side else parts)
