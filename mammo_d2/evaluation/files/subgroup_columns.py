"""Columns that divide images or lesions into subgroups: keys of the ground truth, lesion sizes, columns of a CSV."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.files import read_json
from mammo_d2.core.table_files import read_any_table
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.field_checks import is_number, parse_number, shown
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.detection.matching import rank_within

#: Begins the names of columns of lesions: keys of the annotations, and these two.
LESION_PREFIX = "lesion."
LESION_SIZES = ("size_mm", "size_px")
#: More values than that are hardly subgroups.
MOST_VALUES = 12
_SHORT = {"vendor": "source.vendor"}


@dataclass(frozen=True)
class SubgroupSplit:
    """A column: ``names`` of its values, and ``group`` (N,) of each image, or (G,) of each lesion (``of_lesions``), as
    index of its value, -1 where it is unknown."""

    column: str
    of_lesions: bool
    names: tuple[str, ...]
    group: np.ndarray


def load_splits(
    wanted: Sequence[str], truth: GroundTruth, table: str | os.PathLike | None = None
) -> list[SubgroupSplit]:
    """The columns named.

    Args:
        wanted: "view"; a path of keys as "source.vendor" (for which "vendor" is short); a key of the annotations as
            "lesion.pathology"; "lesion.size_mm" or "lesion.size_px" (the longer side of the box); or a column of the
            table. Numbers are divided at cut points: "age:50,60" is below 50, 50 to below 60, 60 and more.
        truth: the ground truth, whose file is read again.
        table: CSV with ``image_id`` or ``patient_id`` and columns of images; it goes before the ground truth.

    Raises:
        ResultsError: a column that nothing has, more than ``MOST_VALUES`` values, a value that is no number where it
            is to be cut, or cut points that do not rise.
    """
    content = read_json(truth.path, error=ResultsError)
    records = {image["id"]: image for image in content["images"]}
    images = [records[image_id] for image_id in truth.images.ids]
    columns = {} if table is None else _table_columns(Path(table), truth, images)
    annotations = _annotations_of(content["annotations"], truth)
    return [_split(text, truth, images, annotations, columns, table) for text in wanted]


def _split(
    text: str,
    truth: GroundTruth,
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    columns: Mapping[str, Sequence[Any]],
    table: str | os.PathLike | None,
) -> SubgroupSplit:
    name, _, cuts_text = text.partition(":")
    of_lesions = name.startswith(LESION_PREFIX) and name not in columns
    key = name.removeprefix(LESION_PREFIX)
    values: Sequence[Any]
    if not of_lesions:
        values = columns[name] if name in columns else [_value(image, _SHORT.get(name, name)) for image in images]
    elif key in LESION_SIZES:
        values = _sizes(truth, in_mm=key == "size_mm")
    else:
        values = [_value(annotation, key) for annotation in annotations]
    if len(values) and all(value is None for value in values):
        places = "no lesion" if of_lesions else "no image" + (f", and no column of {table}," if table else "")
        raise ResultsError(f"{truth.path}: {places} has {key!r}; name another column of subgroups")
    if cuts_text:
        names, group = _cut(values, _cuts(text, cuts_text), f"{table if name in columns else truth.path}: {name}")
        return SubgroupSplit(name, of_lesions, names, group)
    for value in values:
        if isinstance(value, (Mapping, list)):
            raise ResultsError(f"{truth.path}: {name} {shown(value)} must be text or a number")
    names = tuple(sorted({str(value) for value in values if value is not None}, key=_natural))
    if len(names) > MOST_VALUES:
        raise ResultsError(
            f"{truth.path}: {name} has {len(names)} values, at most {MOST_VALUES} are subgroups; divide numbers at cut "
            f"points, as in --by {name}:10,20"
        )
    number = {value: n for n, value in enumerate(names)}
    group = np.array([-1 if value is None else number[str(value)] for value in values], np.int64)
    return SubgroupSplit(name, of_lesions, names, group)


def _natural(text: str) -> tuple[int, float, str]:
    """Numbers by value, before text."""
    value = parse_number(text)
    return (1, 0.0, text) if value is None else (0, value, text)


def _value(record: Mapping[str, Any], path: str) -> Any:
    """Value at a path of keys; None where it is not there or empty."""
    if path in record:
        value: Any = record[path]
    else:
        value = record
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
    return None if value == "" else value


def _cuts(text: str, cuts_text: str) -> list[float]:
    cuts = [parse_number(part) for part in cuts_text.split(",")]
    if None in cuts or any(a >= b for a, b in pairwise(cuts)):  # type: ignore[operator]
        raise ResultsError(f"--by {text}: cut points must be rising numbers, as in age:50,60")
    return [cut for cut in cuts if cut is not None]


def _cut(values: Sequence[Any], cuts: Sequence[float], where: str) -> tuple[tuple[str, ...], np.ndarray]:
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        number = parse_number(value) if isinstance(value, str) else value
        if value is None:
            continue
        if not is_number(number):
            raise ResultsError(f"{where} {shown(value)} must be a number where it is divided at cut points")
        numbers[row] = number
    names = (f"< {cuts[0]:g}", *(f"{a:g} to < {b:g}" for a, b in pairwise(cuts)), f">= {cuts[-1]:g}")
    group = np.searchsorted(np.asarray(cuts), numbers, side="right")
    return names, np.where(np.isnan(numbers), -1, group)


def _sizes(truth: GroundTruth, in_mm: bool) -> list[float | None]:
    """Longer side of each lesion's box; None without pixel spacing."""
    boxes = truth.lesions.boxes
    sides = boxes[:, 2:] - boxes[:, :2]
    if in_mm:
        sides = sides * truth.images.spacing[truth.lesions.image][:, ::-1]
    return [None if np.isnan(size) else float(size) for size in sides.max(axis=1, initial=-np.inf)]


def _annotations_of(annotations: Sequence[Mapping[str, Any]], truth: GroundTruth) -> list[Mapping[str, Any]]:
    """The annotation of each lesion; an empty one for findings that are only ignored.

    The table has the lesions image by image: first those evaluated, in the order of the file, then the others.
    """
    row = {image_id: number for number, image_id in enumerate(truth.images.ids)}
    evaluated = [annotation for annotation in annotations if annotation["category_id"] in truth.class_of]
    image = np.array([row[annotation["image_id"]] for annotation in evaluated], np.int64)
    in_order = [evaluated[n] for n in np.argsort(image, kind="stable")]
    count = np.bincount(image, minlength=len(row))
    before = np.cumsum(count) - count
    place = rank_within(truth.lesions.image)
    return [
        in_order[before[i] + n] if n < count[i] else {}
        for i, n in zip(truth.lesions.image.tolist(), place.tolist(), strict=True)
    ]


def _table_columns(path: Path, truth: GroundTruth, images: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Columns of a table as values of the images."""
    table = read_any_table(path, error=ResultsError)
    header, entries = table.header, table.by_column(ResultsError)
    key = next((name for name in ("image_id", "patient_id") if name in header), None)
    if key is None:
        raise ResultsError(f"{path}: the first line must name image_id or patient_id; it names {', '.join(header)}")
    ids: list[Hashable] = list(truth.images.ids) if key == "image_id" else [image.get(key) for image in images]
    found: dict[str, Mapping[str, str]] = {}
    for number, entry in entries:
        if entry[key] in found:
            raise ResultsError(f"{path}: line {number}: {key} {entry[key]!r} is there twice")
        found[entry[key]] = entry
    if not any(str(i) in found for i in ids):
        raise ResultsError(f"{path}: none of its {key} is in {truth.path}")
    empty: Mapping[str, str] = {}
    return {name: [found.get(str(i), empty).get(name) or None for i in ids] for name in header if name != key}
