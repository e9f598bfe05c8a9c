"""COCO results in the pixels of the original files, through each image's recorded transform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mammo_d2.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.evaluation.files.results import ResultsError


def results_to_source(entries: Sequence[Mapping[str, Any]], images: Iterable[Mapping[str, Any]]) -> list[dict]:
    """Move COCO results from prepared-image pixels to source-file pixels.

    Args:
        entries: COCO results; ``bbox`` is XYWH in prepared pixels.
        images: dataset records (``image_id``) or COCO images (``id``) with ``height``, ``width`` and, where the image
            was cropped, flipped or scaled, ``transform``.

    Returns:
        The same entries in the same order with ``bbox`` in source pixels; other keys are kept.

    Raises:
        ResultsError: an entry names an image that is not among ``images``.
    """
    transforms = {}
    for image in images:
        size = (image["height"], image["width"])
        transforms[image["image_id"] if "image_id" in image else image["id"]] = (image.get("transform"), size)
    by_image: dict[Any, list[int]] = {}
    for number, entry in enumerate(entries):
        if entry["image_id"] not in transforms:
            raise ResultsError(
                f"results entry {number}: image_id {entry['image_id']!r} is not in the data set; "
                "export results with the data set they were made for"
            )
        by_image.setdefault(entry["image_id"], []).append(number)
    moved = [dict(entry) for entry in entries]
    for image_id, numbers in by_image.items():
        boxes = xywh_to_xyxy([entries[number]["bbox"] for number in numbers])
        value, size = transforms[image_id]
        source = xyxy_to_xywh(ImageTransform.from_dict(value, size).boxes_to_source(boxes))
        for number, box in zip(numbers, source.tolist(), strict=True):
            moved[number]["bbox"] = box
    return moved
