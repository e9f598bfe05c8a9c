"""A detector's COCO results, in prepared or source pixels, as the lesions of dataset records."""

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

#: Pixels of the prepared images of a data set, and of their source files.
PREPARED, SOURCE = "prepared", "source"

# Clipped boxes of a detector may extend beyond their image by this many pixels after scaling.
_ROUNDING = 1.0
# No pixel lies as far as this, and no float overflows.
_LARGEST = 1e12

logger = logging.getLogger(__name__)


def records_with_results(
    records: Sequence[Mapping[str, Any]], results_file: str | Path, min_score: float = 0.0, pixels: str = ""
) -> list[dict[str, Any]]:
    """Records with a detector's results as their lesions, in pixels of the prepared images.

    Results without a pixel inside their prepared image, such as a box in the cropped part, are skipped with a warning.

    Args:
        records: of the data set that the detector was run on.
        results_file: COCO results with ``bbox`` (XYWH), ``segmentation``, or both.
        min_score: entries with a lower score are skipped.
        pixels: coordinates of ``bbox`` and ``segmentation``, "prepared" or "source"; empty: by ``pixels_by_name``, and
            results that cannot be in prepared pixels are an error.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: not a list of results; an image that is not among the records; a mask of another size; boxes that
            extend beyond their images, unless ``pixels`` is given.
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
            "%s: %d entries have no pixel inside their prepared image and are skipped; the first is entry %d",
            results_file,
            len(outside),
            outside[0],
        )
    return [{**record, "annotations": by_image[record["image_id"]]} for record in records]


def pixels_by_name(results_file: str | Path) -> str:
    """ "source" for the file name of a run's results in source pixels, else empty."""
    return SOURCE if Path(results_file).name == SOURCE_RESULTS_FILE else ""


def transform_of(record: Mapping[str, Any]) -> ImageTransform:
    """Transform from the source file of a record to its prepared image."""
    return ImageTransform.from_dict(record.get("transform"), _size(record))


def is_inside(bbox: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether a part of an XYWH box lies in an image of ``size`` (height, width)."""
    box = clip_boxes(xywh_to_xyxy(bbox), size)
    return bool((box[2:] > box[:2]).all())


def _size(record: Mapping[str, Any]) -> tuple[int, int]:
    return record["height"], record["width"]


def _other_pixels(in_source: bool) -> str:
    """Remedy for a mask of another size."""
    return f"; or give --pixels {PREPARED if in_source else SOURCE} if it is in those pixels"


def _read(results_file: str | Path, images: Mapping[Any, Any]) -> Iterable[tuple[int, dict[str, Any]]]:
    """Number and entry of each result."""
    entries = read_json(results_file, error=ResultsError)
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        known = isinstance(entry, dict) and {"image_id", "score"} <= set(entry)
        if not known or not (entry.get("bbox") or entry.get("segmentation")):
            raise ResultsError(
                f"{results_file}, entry {number}: no COCO result with image_id, score, and bbox or segmentation; give "
                "a list of such results, e.g. coco_instances_results.json of an evaluation"
            )
        if problem := _problem(entry):
            raise ResultsError(f"{results_file}, entry {number}: {problem}")
        if entry["image_id"] not in images:
            raise ResultsError(
                f"{results_file}, entry {number}: image_id {entry['image_id']!r} is not in the data set; give the data "
                "set that the results were made for"
            )
        yield number, entry


def _problem(entry: Mapping[str, Any]) -> str | None:
    """What is wrong with the values of a result."""
    image_id, score, box, mask = (entry.get(key) for key in ("image_id", "score", "bbox", "segmentation"))
    if isinstance(image_id, bool) or not isinstance(image_id, (int, str)):
        return f"image_id {image_id!r:.80} must be a number or text"
    if not _is_finite(score):
        return f"score {score!r:.80} must be a finite number"
    if box and not (isinstance(box, list) and len(box) == 4 and all(map(_is_finite, box))):
        return f"bbox {box!r:.80} must be [x, y, width, height], finite numbers"
    if mask and not isinstance(mask, (dict, list)):
        return f"segmentation {mask!r:.80} must be polygons or run lengths"
    return None


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < _LARGEST


def _check_prepared(
    entries: Sequence[tuple[int, Mapping[str, Any]]],
    images: Mapping[Any, Mapping[str, Any]],
    transforms: Mapping[Any, ImageTransform],
    results_file: str | Path,
) -> None:
    """Check that boxes without stated coordinates can be in prepared pixels.

    Raises:
        ResultsError: some boxes extend beyond their prepared image although all lie within their source files, or a
            box lies entirely outside its prepared image.
    """
    boxes = [(number, entry["image_id"], entry["bbox"]) for number, entry in entries if entry.get("bbox")]
    beyond = [entry for entry in boxes if _overhang(entry[2], _size(images[entry[1]])) > _ROUNDING]
    if not beyond:
        return

    def describe(entry: tuple[int, Any, Sequence[float]]) -> str:
        number, image_id, box = entry
        size = _size(images[image_id])
        return f"{results_file}, entry {number}: bbox {list(box)} extends beyond its image of {size} pixels"

    if all(_overhang(box, transforms[image_id].source_size) <= _ROUNDING for _, image_id, box in boxes):
        raise ResultsError(
            f"{describe(beyond[0])}, as do {len(beyond)} of {len(boxes)} boxes; but all boxes lie within the source "
            f"files: give --pixels {SOURCE} if they are in pixels of these, or --pixels {PREPARED} if boxes of this "
            "detector may extend beyond the image"
        )
    outside = [entry for entry in beyond if min(entry[2][2:]) > 0 and not is_inside(entry[2], _size(images[entry[1]]))]
    if outside:
        raise ResultsError(
            f"{describe(outside[0])} and lies entirely outside it, and not all boxes lie within the source files of "
            f"the images; give the data set that the results were made for, or --pixels {PREPARED} or {SOURCE} to skip "
            "such boxes"
        )


def _overhang(bbox: Sequence[float], size: tuple[int, int]) -> float:
    """Largest distance in pixels by which an XYWH box extends beyond an image of ``size`` (height, width)."""
    box = xywh_to_xyxy(bbox)
    return float(np.abs(box - clip_boxes(box, size)).max())


def _to_prepared(lesion: Mapping[str, Any], transform: ImageTransform, size: tuple[int, int]) -> dict[str, Any]:
    """``bbox`` and ``segmentation`` mapped from source pixels to the prepared image of ``size`` (height, width)."""
    moved: dict[str, Any] = {}
    if "bbox" in lesion:
        moved["bbox"] = xyxy_to_xywh(transform.boxes_to_prepared(xywh_to_xyxy(lesion["bbox"]))).tolist()
    if "segmentation" in lesion:
        part = transform.crop_and_flip(decode_mask(lesion["segmentation"], transform.source_size))
        mask = cv2.resize(np.ascontiguousarray(part, np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST)
        moved["segmentation"] = encode_mask(mask)
    return moved
