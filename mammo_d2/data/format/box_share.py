"""A training set in which a share of the positive patients keep their boxes; the others have image labels."""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Hashable, Sequence
from typing import Any

from mammo_d2.core.image_truth import image_truth

logger = logging.getLogger(__name__)


def check_box_share(share: float, seed: int) -> None:
    """Check DATASETS.BOXES_FOR and DATASETS.BOXES_SEED.

    Raises:
        ValueError: a share outside 0..1, or a negative seed.
    """
    if not 0 <= share <= 1:
        raise ValueError(
            f"DATASETS.BOXES_FOR is {share}; it must be a share from 0 to 1 of the positive patients, such as 0.25"
        )
    if seed < 0:
        raise ValueError(f"DATASETS.BOXES_SEED is {seed}; it must not be negative")


def patients_with_boxes(records: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the patients with at least one usable (non-crowd) box, sorted.

    An image without ``patient_id`` is a patient of its own.
    """
    return sorted(
        {
            _patient(record)
            for record in records
            if any(not annotation.get("iscrowd", 0) for annotation in record["annotations"])
        }
    )


def keep_boxes(
    records: Sequence[dict[str, Any]], classes: Sequence[str], share: float, seed: int, source: str = "the training set"
) -> Sequence[dict[str, Any]]:
    """Take the boxes away from all positive patients but a share of them.

    The patients are put into an order that follows from (seed, patient) alone, and the first ones keep the boxes of all
    their images: round(share · number of patients with a box), halves up, and at least one if the share is not 0. The
    patients of a smaller share are therefore among those of a larger one, whatever the order of the records.

    What an image without its boxes shows is written in its labels, so that it never becomes a negative image: a class
    with a box is 1; other classes keep their truth. A class that has only boxes marked ``ignore`` and no label 1 is
    unknown.

    Args:
        records: dataset records (see ``catalog.py``); they are not modified.
        classes: names of the detection classes, by number.
        share: of the patients with a usable box, 0 to 1.
        seed: of the draw, ≥ 0.
        source: names of the data sets, for the log, which lists the patients that keep their boxes.

    Returns:
        As many records in the same order; ``records`` themselves if all patients keep their boxes.

    Raises:
        ValueError: see ``check_box_share``.
    """
    check_box_share(share, seed)
    if share == 1:
        return records
    patients = sorted(patients_with_boxes(records), key=lambda patient: (_rank(seed, patient), patient))
    count = math.floor(share * len(patients) + 0.5)
    kept = patients[: max(count, 1) if share > 0 else 0]
    lost = set(patients) - set(kept)
    logger.info(
        "%s: %d of %d positive patients keep their boxes (DATASETS.BOXES_FOR %s, BOXES_SEED %d): %s",
        source, len(kept), len(patients), share, seed, ", ".join(sorted(kept)) or "none",
    )  # fmt: skip
    return [_without_boxes(record, classes) if _patient(record) in lost else record for record in records]


def _without_boxes(record: dict[str, Any], classes: Sequence[str]) -> dict[str, Any]:
    """The record without annotations, its labels completed by what they showed."""
    annotations = record["annotations"]
    if not annotations:
        return record
    truth = image_truth(record, classes)
    for annotation in annotations:
        if truth[annotation["category_id"]] == 0:  # its boxes are all marked "ignore"
            truth[annotation["category_id"]] = None
    labels = {**(record.get("labels") or {}), **dict(zip(classes, truth, strict=True))}
    return {**record, "annotations": [], "labels": labels}


def _patient(record: dict[str, Any]) -> str:
    patient: Hashable = record.get("patient_id")
    if patient is not None:
        return str(patient)
    return f"image {record.get('image_id')} {os.path.basename(record.get('file_name', ''))}"


def _rank(seed: int, patient: str) -> bytes:
    return hashlib.blake2b(f"{seed} {patient}".encode(), digest_size=16).digest()
