"""Checks of the fields of evaluation files: ids, numbers, boxes, categories and the images of a ground truth.

Every error is a ``ResultsError`` whose message begins with ``where`` (file and entry) and names field, value and
remedy. Values are cut after 60 characters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mammo_d2.evaluation.files.results import ResultsError

#: No image has that many pixels; larger coordinates overflow when areas are made of them.
LARGEST_COORDINATE = 1e9


def shown(value: Any) -> str:
    """The value for a message, cut after 60 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # nested too deeply; an integer of more digits than Python prints
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a finite number that a float can hold (true and false are none)."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def parse_number(text: str) -> float | None:
    """The finite number that a field of a CSV file holds; None if it holds none (Python's 1_000 is none)."""
    try:
        value = math.nan if "_" in text else float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def require_fields(entry: Any, keys: Sequence[str], where: str) -> None:
    """Raise unless ``entry`` is an object that has all ``keys``."""
    if not isinstance(entry, Mapping):
        raise ResultsError(f"{where}: {shown(entry)} is not an object with {', '.join(keys)}")
    for key in keys:
        if key not in entry:
            raise ResultsError(f"{where}: field {key!r} is missing; it needs {', '.join(keys)}")


def require_list(content: Mapping[str, Any], key: str, where: str) -> list[Any]:
    """The list ``content[key]``."""
    if not isinstance(content[key], list):
        raise ResultsError(f"{where}: {key} {shown(content[key])} must be a list; write [] where there is none")
    return content[key]


def check_id(value: Any, where: str, key: str = "id") -> None:
    """Raise unless ``value`` is a whole number or text that is not empty."""
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
        raise ResultsError(f"{where}: {key} {shown(value)} must be a whole number or text")


def check_box(box: Any, where: str, *, positive: bool = False) -> None:
    """Raise unless ``box`` is [x, y, width, height] of finite numbers, no side negative (``positive``: nor 0)."""
    if not isinstance(box, Sequence) or len(box) != 4 or not all(is_number(v) for v in box):
        raise ResultsError(f"{where}: bbox {shown(box)} must be four finite numbers [x, y, width, height]")
    if max(map(abs, box)) > LARGEST_COORDINATE:
        raise ResultsError(f"{where}: bbox {shown(box)} must be in pixels; no image is that large")
    if positive and min(box[2:]) <= 0:
        raise ResultsError(f"{where}: bbox {shown(box)} must be [x, y, width, height] with positive sizes")
    if min(box[2:]) < 0:
        raise ResultsError(f"{where}: bbox {shown(box)} has a negative size; COCO boxes are [x, y, width, height]")


def check_inside(box: Sequence[float], height: float, width: float, where: str) -> None:
    """Raise if the centre of a box XYWH lies outside of its image: its coordinates are those of another image.

    Nothing is checked where height or width is NaN.
    """
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 2
    if x < 0 or y < 0 or x > width or y > height:
        raise ResultsError(
            f"{where}: bbox {shown(list(box))} has its centre outside of the image of {height:g} rows and {width:g} "
            "columns; boxes are [x, y, width, height] in pixels of the image in the ground truth, not of the file it "
            "was prepared from, nor of a resized copy"
        )


def category_names(categories: list[Any], where: str) -> dict[int, str]:
    """Name of each category id of a COCO file.

    Raises:
        ResultsError: an id that is no whole number, a name that is no text, or either of them twice.
    """
    names: dict[int, str] = {}
    for number, category in enumerate(categories):
        place = f"{where}: categories[{number}]"
        require_fields(category, ("id", "name"), place)
        category_id, name = category["id"], category["name"]
        if isinstance(category_id, bool) or not isinstance(category_id, int):
            raise ResultsError(f"{place}: id {shown(category_id)} must be a whole number")
        if not isinstance(name, str) or not name.strip():
            raise ResultsError(f"{place}: name {shown(name)} must be text")
        if category_id in names:
            raise ResultsError(f"{place}: id {category_id} is there twice; category ids must be unique")
        if name in names.values():
            raise ResultsError(
                f"{place}: name {name!r} is there twice; give the categories different names, or one id to all of it"
            )
        names[category_id] = name
    return names


def check_truth_image(image: Mapping[str, Any], classes: Sequence[str], where: str) -> None:
    """Check the fields of a ground-truth image that the evaluation reads; all but ``id`` may be missing or null.

    Args:
        image: the image's object.
        classes: names of the categories, whose ``labels`` are checked.
        where: begins the message.

    Raises:
        ResultsError: a field of the wrong type or out of range.
    """
    check_id(image["id"], where)
    for key in ("patient_id", "exam_id"):
        if image.get(key) is not None:
            check_id(image[key], where, key)
    if not isinstance(image.get("laterality"), (str, type(None))):
        raise ResultsError(f'{where}: laterality {shown(image["laterality"])} must be "L", "R" or null')
    for key in ("height", "width"):
        size = image.get(key)
        if size is not None and not (is_number(size) and 0 < size <= LARGEST_COORDINATE):
            raise ResultsError(f"{where}: {key} {shown(size)} must be a number of pixels above 0")
    spacing = image.get("pixel_spacing")
    if spacing is not None and not (
        isinstance(spacing, list) and len(spacing) == 2 and all(is_number(v) and v > 0 for v in spacing)
    ):
        raise ResultsError(
            f"{where}: pixel_spacing {shown(spacing)} must be [row, column] in mm, both above 0, or null if unknown"
        )
    for key in ("source", "transform", "labels"):
        if not isinstance(image.get(key), (Mapping, type(None))):
            raise ResultsError(f"{where}: {key} {shown(image[key])} must be an object or null")
    labels = image.get("labels") or {}
    for name in classes:
        label = labels.get(name)
        if label is not None and not (is_number(label) and label in (0, 1)) and not isinstance(label, bool):
            raise ResultsError(
                f"{where}: labels: {name} {shown(label)} must be 0 (not shown), 1 (shown) or null (unknown); a BI-RADS "
                "category is no label, it belongs into birads"
            )


def check_truth_annotation(annotation: Mapping[str, Any], where: str) -> None:
    """Check ids, box and flags of a ground-truth annotation.

    Raises:
        ResultsError: a field of the wrong type or out of range.
    """
    check_id(annotation["image_id"], where, "image_id")
    check_box(annotation["bbox"], where, positive=True)
    for key in ("iscrowd", "ignore"):
        flag = annotation.get(key)
        if flag is not None and not isinstance(flag, bool) and not (is_number(flag) and flag in (0, 1)):
            raise ResultsError(f"{where}: {key} {shown(flag)} must be the number 0 or 1")
    area = annotation.get("area")
    if area is not None and not (is_number(area) and area >= 0):
        raise ResultsError(f"{where}: area {shown(area)} must be a number of pixels, or be left out")


def holds_object(path: Path) -> bool:
    """Whether a JSON file holds an object, not a list."""
    with open(path, "rb") as stream:
        return stream.read(100).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")
