"""What a detector found as the lesions of a data set's records, from COCO results in prepared or in source pixels."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.boxes import clip_boxes, xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.files import read_json
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.core.masks import box_of_segmentation, decode_mask, encode_mask
from mammo_d2.evaluation.files.results import SOURCE_RESULTS_FILE, ResultsError
from mammo_d2.framework import BoxMode

#: Pixels of the images of a data set, and of the files that they were prepared from.
PREPARED, SOURCE = "prepared", "source"

# Detectors that clip their boxes to the image stay within it by this many pixels, whatever they are scaled by.
_ROUNDING = 1.0

logger = logging.getLogger(__name__)


def records_with_results(
    records: Sequence[Mapping[str, Any]], results_file: str | Path, min_score: float = 0.0, pixels: str = ""
) -> list[dict[str, Any]]:
    """Records whose lesions are what a detector found, in pixels of the prepared images.

    What has no pixel inside its image, as a box of a file outside the part that was kept, is left out with a warning.

    Args:
        records: of the data set that the detector was run on.
        results_file: COCO results, ``bbox`` XYWH or ``segmentation``, or both.
        min_score: entries of a lower score are left out.
        pixels: those of ``bbox`` and ``segmentation``, "prepared" or "source"; empty: see ``pixels_by_name``, and
            results that cannot be in prepared pixels are an error.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: no list of results; one of an image that is not among the records; a mask of another size; boxes
            that reach out of their images, unless ``pixels`` says that they do.
    """
    images = {record["image_id"]: record for record in records}
    entries = [(n, entry) for n, entry in _read(results_file, images) if entry["score"] >= min_score]
    transforms = {image_id: transform_of(record) for image_id, record in images.items()}
    in_source = (pixels or pixels_by_name(results_file)) == SOURCE
    if not pixels and not in_source:
        _check_prepared(entries, images, transforms, results_file)
    by_image: dict[Any, list[dict[str, Any]]] = {image_id: [] for image_id in images}
    outside = []
    for number, entry in entries:
        size, transform = _size(images[entry["image_id"]]), transforms[entry["image_id"]]
        lesion = {key: entry[key] for key in ("bbox", "segmentation") if entry.get(key)}
        try:
            if in_source and not transform.is_identity:
                lesion = _to_prepared(lesion, transform, size)
            if "segmentation" in lesion:
                lesion = {"bbox": box_of_segmentation(lesion["segmentation"], size), **lesion}
        except ValueError as error:
            raise ResultsError(f"{results_file}, entry {number}: {error}{_other_pixels(in_source)}") from error
        if is_inside(lesion["bbox"], size):
            found = {"bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "score": entry["score"], **lesion}
            by_image[entry["image_id"]].append(found)
        else:
            outside.append(number)
    if outside:
        logger.warning(
            "%s: %d entries have no pixel inside their prepared image and are left out, the first is entry %d",
            results_file,
            len(outside),
            outside[0],
        )
    return [{**record, "annotations": by_image[record["image_id"]]} for record in records]


def pixels_by_name(results_file: str | Path) -> str:
    """ "source" of a file named as a run names its results in pixels of the source files, else empty."""
    return SOURCE if Path(results_file).name == SOURCE_RESULTS_FILE else ""


def transform_of(record: Mapping[str, Any]) -> ImageTransform:
    """From the file that a record's image was prepared from to that image."""
    return ImageTransform.from_dict(record.get("transform"), _size(record))


def is_inside(bbox: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a part of an XYWH box lies in an image of ``size`` (height, width)."""
    box = clip_boxes(xywh_to_xyxy(bbox), size)
    return bool((box[2:] > box[:2]).all())


def _size(record: Mapping[str, Any]) -> tuple[int, int]:
    return record["height"], record["width"]


def _other_pixels(in_source: bool) -> str:
    """What a mask of another size may be."""
    return f"; or give --pixels {PREPARED if in_source else SOURCE} if it is in those pixels"


def _read(results_file: str | Path, images: Mapping[Any, Any]) -> Iterable[tuple[int, dict[str, Any]]]:
    """Number and entry of each result."""
    entries = read_json(results_file, error=ResultsError)
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        known = isinstance(entry, dict) and {"image_id", "score"} <= set(entry)
        if not known or not (entry.get("bbox") or entry.get("segmentation")):
            raise ResultsError(
                f"{results_file}, entry {number}: no COCO result with image_id, score, and bbox or segmentation; name "
                "a list of such, as coco_instances_results.json of an evaluation"
            )
        if entry["image_id"] not in images:
            raise ResultsError(
                f"{results_file}, entry {number}: image_id {entry['image_id']!r} is not in the data set; name the data "
                "set that the results were made for"
            )
        yield number, entry


def _check_prepared(
    entries: Sequence[tuple[int, Mapping[str, Any]]],
    images: Mapping[Any, Mapping[str, Any]],
    transforms: Mapping[Any, ImageTransform],
    results_file: str | Path,
) -> None:
    """Look whether boxes of which nothing is said can be in prepared pixels.

    Raises:
        ResultsError: they can not: some reach out of their image and all lie within the file it was prepared from, or
            one lies beside its image.
    """
    boxes = [(number, entry["image_id"], entry["bbox"]) for number, entry in entries if entry.get("bbox")]
    beyond = [one for one in boxes if _reach(one[2], _size(images[one[1]])) > _ROUNDING]
    if not beyond:
        return

    def described(one: tuple[int, Any, Sequence[float]]) -> str:
        number, image_id, box = one
        size = _size(images[image_id])
        return f"{results_file}, entry {number}: bbox {list(box)} reaches out of its image of {size} pixels"

    if all(_reach(box, transforms[image_id].source_size) <= _ROUNDING for _, image_id, box in boxes):
        raise ResultsError(
            f"{described(beyond[0])}, {len(beyond)} of {len(boxes)} do; but all lie within the files that the images "
            f"were prepared from: give --pixels {SOURCE} if they are in pixels of these, or --pixels {PREPARED} if "
            "boxes of this detector may reach out"
        )
    beside = [one for one in beyond if min(one[2][2:]) > 0 and not is_inside(one[2], _size(images[one[1]]))]
    if beside:
        raise ResultsError(
            f"{described(beside[0])} altogether, and not all lie within the files that the images were prepared from; "
            f"name the data set that the results were made for, or give --pixels {PREPARED} or {SOURCE} to leave such "
            "boxes out"
        )


def _reach(bbox: Sequence[float], size: tuple[int, int]) -> float:
    """How many pixels an XYWH box reaches out of an image of ``size`` (height, width)."""
    box = xywh_to_xyxy(bbox)
    return float(np.abs(box - clip_boxes(box, size)).max())


def _to_prepared(lesion: Mapping[str, Any], transform: ImageTransform, size: tuple[int, int]) -> dict[str, Any]:
    """``bbox`` and ``segmentation`` of a file, in pixels of the image of ``size`` that was prepared from it."""
    moved: dict[str, Any] = {}
    if "bbox" in lesion:
        moved["bbox"] = xyxy_to_xywh(transform.boxes_to_prepared(xywh_to_xyxy(lesion["bbox"]))).tolist()
    if "segmentation" in lesion:
        part = transform.crop_and_flip(decode_mask(lesion["segmentation"], transform.source_size))
        mask = cv2.resize(np.ascontiguousarray(part, np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        moved["segmentation"] = encode_mask(mask)
    return moved
