"""The package's COCO format: reading a file, and the check of every record in it.

Beyond COCO's own keys an image may have ``patient_id``, ``exam_id``, ``laterality``, ``view``, ``labels``,
``birads``, ``density``, ``pixel_spacing`` with its source tag, ``breast_box``, ``source`` and ``transform``; an
annotation ``pathology`` and ``lesion_id``. An image without annotation is a valid negative. Boxes are XYWH in pixels
of the prepared image, ids of annotations start at 1 (pycocotools never matches annotation id 0).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mammo_d2.core.boxes import clip_xywh
from mammo_d2.core.files import read_json
from mammo_d2.data.format.image_check import check_image_files
from mammo_d2.data.format.problems import Report, SchemaError
from mammo_d2.data.format.record_checks import RecordChecker

#: Names of the annotation files of a prepared data set, without suffix.
SPLITS = ("train", "val", "test")

_NOT_AN_OBJECT = "the top level must be an object with images and annotations"

logger = logging.getLogger(__name__)


def _read(path: str | os.PathLike[str]) -> Any:
    return read_json(path, if_missing="check the path or prepare the data set first", error=SchemaError)


def load_coco(
    path: str | os.PathLike[str],
    image_root: str | os.PathLike[str] | None = None,
    *,
    check_images: str = "none",
    clip_boxes: bool = True,
) -> dict[str, Any]:
    """Read, check and complete one COCO file.

    Boxes that stick out of the image are clipped (``clip_boxes``) or left; missing ``area``, ``iscrowd`` and
    ``annotations`` are filled in. Warnings go to the log.

    Args:
        path: the JSON file.
        image_root: folder that ``file_name`` is relative to; needed for ``check_images``.
        check_images: "none", "exists", "size" (header only) or "full" (decode every image).
        clip_boxes: clip boxes to the image.

    Returns:
        The file's content as a dict.

    Raises:
        FileNotFoundError: no such file.
        SchemaError: one or more errors; the message lists them with the remedy.
    """
    return validated_coco(path, image_root, check_images=check_images, clip_boxes=clip_boxes)[0]


def validated_coco(
    path: str | os.PathLike[str],
    image_root: str | os.PathLike[str] | None = None,
    *,
    check_images: str = "none",
    clip_boxes: bool = True,
) -> tuple[dict[str, Any], Report]:
    """``load_coco``, with the report of the check, which has warnings at most."""
    data = _read(path)
    if not isinstance(data, dict):  # a text would be taken for the path of another file
        raise SchemaError(f"{path}: {_NOT_AN_OBJECT}")
    report = validate_coco(data, image_root, check_images=check_images, name=str(path))
    report.raise_if_errors()
    log_warnings(path, [warning.text for warning in report.warnings[:MOST_WARNINGS]], len(report.warnings))
    data.setdefault("annotations", [])
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    for annotation in data["annotations"]:
        if clip_boxes:
            annotation["bbox"] = clip_xywh(annotation["bbox"], sizes[annotation["image_id"]])
        annotation.setdefault("iscrowd", 0)
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    return data, report


# Files whose warnings have been logged; a file may be loaded many times.
_warned: set[tuple[str, int]] = set()
#: Warnings of a file that are logged.
MOST_WARNINGS = 20


def log_warnings(path: str | os.PathLike[str], warnings: Sequence[str], count: int) -> None:
    """Log a file's warnings, once for each state of the file.

    Args:
        path: the file.
        warnings: the first ``MOST_WARNINGS`` ones.
        count: how many there are.
    """
    state = (os.path.abspath(path), os.stat(path).st_mtime_ns)
    if state in _warned:
        return
    _warned.add(state)
    for warning in warnings:
        logger.warning("%s", warning)
    if count > len(warnings):
        logger.warning("%s: %d more warnings; run the validator to see them", path, count - len(warnings))


def validate_coco(
    data: Mapping[str, Any] | str | os.PathLike[str],
    image_root: str | os.PathLike[str] | None = None,
    *,
    check_images: str = "none",
    name: str | None = None,
) -> Report:
    """Check every record of a COCO file against the format.

    Args:
        data: the content, or the path of the JSON file.
        image_root: folder that ``file_name`` is relative to.
        check_images: "none", "exists", "size" (compare the file header's size) or "full" (decode every image).
        name: how to name the file in the messages; the path by default.

    Returns:
        The problems found; a file that cannot be read raises ``SchemaError`` or ``FileNotFoundError`` instead.
    """
    if not isinstance(data, Mapping):
        if isinstance(data, (str, os.PathLike)):
            name = name or str(data)
            data = _read(data)
        if not isinstance(data, Mapping):
            raise SchemaError(f"{name or 'COCO data'}: {_NOT_AN_OBJECT}")
    if check_images not in ("none", "exists", "size", "full"):
        raise ValueError(f"check_images {check_images!r} must be one of none, exists, size, full")
    if image_root is None and check_images != "none":
        raise ValueError(f"check_images={check_images!r} needs image_root, the folder that file_name is relative to")
    checker = RecordChecker(name or "COCO data", Report())
    lists = {key: checker.top_level(data, key) for key in ("images", "annotations", "categories")}
    categories = checker.categories(lists["categories"])
    sizes = checker.images(lists["images"])
    checker.annotations(lists["annotations"], sizes, categories)
    checker.labels_agree(lists["images"], lists["annotations"], categories)
    if image_root is not None and check_images != "none":
        checker.report.extend(check_image_files(lists["images"], image_root, check_images, checker.file))
    return checker.report


def check_splits(paths: Iterable[str | os.PathLike[str]]) -> Report:
    """Look for patients and source images that are in more than one split.

    Args:
        paths: one COCO file per split.

    Returns:
        An error for each patient, and for each source hash, found in two files.
    """
    report = Report()
    patients: dict[Any, str] = {}
    hashes: dict[Any, str] = {}
    for path in paths:
        data = _read(path)
        images = data.get("images") if isinstance(data, Mapping) else None
        # A file of another form is an error of ``validate_coco``.
        images = images if isinstance(images, list) else []
        here: set[Any] = set()
        for image in (i for i in images if isinstance(i, Mapping)):
            source = image.get("source")
            sha = source.get("sha256") if isinstance(source, Mapping) else None
            for seen, value, field, what in (
                (patients, image.get("patient_id"), "patient_id", "patient"),
                (hashes, sha, "source.sha256", "source image"),
            ):
                if value is None or not isinstance(value, (str, int)):
                    continue
                other = seen.setdefault(value, str(path))
                if other != str(path) and (field, value) not in here:
                    here.add((field, value))
                    report.add(
                        "error", "split-leak", str(path), f"image {image.get('id')}", field, value,
                        f"this {what} is also in {other}",
                        "put all images of a patient into one split (make the splits patient-wise again)",
                    )  # fmt: skip
    return report
