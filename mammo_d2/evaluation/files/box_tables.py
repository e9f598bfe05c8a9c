"""Tables of any program: boxes and image scores. Columns are found by their usual names, images by id or file name.

They may be CSV in any usual form or Excel workbooks, see ``core/table_files.py``; large ones .npz or Parquet.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterable, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mammo_d2.core.files import read_json
from mammo_d2.core.table_files import ColumnNames, TextTable, read_any_table
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.column_files import COLUMN_SUFFIXES, read_columns
from mammo_d2.evaluation.files.field_checks import holds_object, parse_number, shown
from mammo_d2.evaluation.files.image_scores import read_image_scores
from mammo_d2.evaluation.files.predicted_files import read_predicted
from mammo_d2.evaluation.files.results import ResultsError

#: What a column may be called, in any case; the first name is that of ``--columns``.
BOX_FIELDS = {
    "image": ("image", "image_id", "file", "file_name", "filename", "image_path", "path", "imageid"),
    "class": ("class", "category", "category_name", "category_id", "label", "class_name"),
    "score": ("score", "confidence", "probability", "prob", "conf"),
    "x": ("x", "x1", "xmin", "x_min", "left"),
    "y": ("y", "y1", "ymin", "y_min", "top"),
    "width": ("width", "w"),
    "height": ("height", "h"),
    "x2": ("x2", "xmax", "x_max", "right"),
    "y2": ("y2", "ymax", "y_max", "bottom"),
}
# How the table of boxes of mammo-d2 predict begins.
_OF_PREDICT = ("file", "patient_id", "laterality", "view", "class", "score")
# And its table of image scores.
_SCORES_OF_PREDICT = ("image_id", "file", "patient_id", "laterality", "view")


def read_box_table(
    path: str | os.PathLike[str], truth: GroundTruth, columns: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Read boxes as COCO results entries, with the class's name in ``category_id``.

    Args:
        path: the file: a box in each row, in pixels of the ground truth's images.
        truth: the ground truth. An image is named by its id, or by its file with as much of the path as tells it apart,
            with or without suffix. Without a column of classes there must be one class.
        columns: further names of columns, and what they hold (a key of ``BOX_FIELDS``). Of a ``ColumnNames`` it is for
            the caller to check that each was found.

    Returns:
        the entries, and the column in which each field was found.

    Raises:
        ResultsError: a missing or ambiguous column, an unknown image, a field that is no number. The message names the
            line.
    """
    path = Path(path)
    table = read_any_table(path, error=ResultsError)
    header = table.header
    if header[: len(_OF_PREDICT)] == _OF_PREDICT:
        raise ResultsError(
            f"{path}: a table of mammo-d2 predict, in pixels of the files; name predictions.json beside it, whose "
            "boxes are placed on the ground truth's images"
        )
    places = _find_columns(table, _named(columns, table, BOX_FIELDS), len(truth.class_of_name) == 1)
    images = _Images(truth)
    only = next(iter(truth.class_of_name))
    names = {str(number): number for number in (*truth.class_of, *truth.other_ids)}
    entries = []
    for line, values in table.rows:
        where = f"{path}: line {line}"
        fields = {field: values[place] for field, place in places.items()}

        def number(field: str, fields: Mapping[str, str] = fields, where: str = where) -> float:
            value = parse_number(table.number_text(fields[field]))
            if value is None:
                raise ResultsError(f"{where}: {header[places[field]]} {fields[field]!r} is no finite number")
            return value

        x, y = number("x"), number("y")
        size = [number("x2") - x, number("y2") - y] if "x2" in fields else [number("width"), number("height")]
        name = fields.get("class", only)
        entries.append(
            {
                "image_id": images.find(fields["image"], where),
                "category_id": name if name in truth.class_of_name else names.get(name, name),
                "bbox": [x, y, *size],
                "score": number("score"),
            }
        )
    return entries, {field: header[place] for field, place in places.items()}


def _find_columns(table: TextTable, given: ColumnNames, one_class: bool) -> dict[str, int]:
    """Number of each field's column."""
    path, header = table.path, table.header
    lower = [name.lower() for name in header]
    places = given.places(header, BOX_FIELDS)
    for field, names in BOX_FIELDS.items():
        found = [place for place, name in enumerate(lower) if name in names]
        if field not in places and len(found) > 1:
            several = ", ".join(header[place] for place in found)
            raise ResultsError(
                f"{path}: {several} may all be the {field}; say which: --columns {header[found[0]]}={field}"
            )
        if field not in places and found:
            places[field] = found[0]
    corners = "x2" in places and "y2" in places
    needed = ["image", "score", "x", "y", *(("x2", "y2") if corners else ("width", "height"))]
    if not one_class:
        needed.append("class")
    if missing := [field for field in needed if field not in places]:
        raise ResultsError(
            f"{path}: no column for {', '.join(missing)}; the first line names {', '.join(header) or 'nothing'}: name "
            f"the columns, e.g. --columns Befund={missing[0]}"
        )
    kept = [*needed, "class"]
    return {field: places[field] for field in BOX_FIELDS if field in kept and field in places}


def load_image_scores(
    path: str | os.PathLike, truth: GroundTruth, columns: Mapping[str, str] | None = None
) -> np.ndarray:
    """Read image scores: ``image_scores.json`` of a run, ``predictions.json`` of mammo-d2 predict, or a table.

    A table has a column of images (``image_id``, ``file`` or another name of ``BOX_FIELDS``) and one per class; an
    empty cell, or NaN, is no score. With a single class the column may also be named ``score``. Other columns are not
    read. A JSON file must score every image of the ground truth.

    Args:
        path: the file; .npz and .parquet have the column ``image_id``.
        truth: the ground truth; its images are named as in ``read_box_table``.
        columns: further names of columns, and what they hold: "image", "score" or a class. Of a ``ColumnNames`` it is
            for the caller to check that each was found.

    Returns:
        (N, C) float64, NaN for images or classes that the file does not score.

    Raises:
        ResultsError: a missing column, an unknown or repeated image, a score that is no finite number (named by line).
    """
    path = Path(path)
    classes = truth.images.classes
    if path.suffix.lower() == ".json":
        if holds_object(path):
            scored = read_predicted(path, truth.path).image_scores
            return np.array([[scored.get(i, {}).get(c, np.nan) for c in classes] for i in truth.images.ids], float)
        return read_image_scores(path).arranged(truth.images.ids, classes, truth.path)
    if path.suffix.lower() in COLUMN_SUFFIXES:
        return _scores_of_columns(path, truth)
    table = read_any_table(path, error=ResultsError)
    places = _score_columns(table, truth, columns)
    image_place = places.pop("image")
    labels = {name: 0 if name == "score" else classes.index(name) for name in places}
    images = _Images(truth)
    rows = {image_id: row for row, image_id in enumerate(truth.images.ids)}
    scores, seen = np.full((len(rows), len(classes)), np.nan), set()
    for line, cells in table.rows:
        where = f"{path}: line {line}"
        row = rows[images.find(cells[image_place], where)]
        if row in seen:
            raise ResultsError(f"{where}: {table.header[image_place]} {cells[image_place]!r} is there twice")
        seen.add(row)
        for name, place in places.items():
            text = table.number_text(cells[place])
            value = parse_number(text) if text else math.nan
            if value is None:
                raise ResultsError(f"{where}: {name} {cells[place]!r} is no finite number; leave it empty if unknown")
            scores[row, labels[name]] = value
    return scores


def _scores_of_columns(path: Path, truth: GroundTruth) -> np.ndarray:
    """(N, C) image scores of a .npz or .parquet file."""
    classes = truth.images.classes
    columns = read_columns(path, ["image_id"], [*classes, "score"])
    named = {name: columns[name] for name in classes if name in columns}
    if not named and len(classes) == 1 and "score" in columns:
        named = {classes[0]: columns["score"]}
    if not named:
        raise ResultsError(f"{path}: no column of {', '.join(classes)}; write one per class")
    rows = {image_id: row for row, image_id in enumerate(truth.images.ids)}
    ids = columns["image_id"].tolist()
    unknown = next((image_id for image_id in ids if image_id not in rows), None)
    if unknown is not None:
        raise ResultsError(f"{path}: image_id {unknown!r} is not in the ground truth; write the ids as it has them")
    place = np.array([rows[image_id] for image_id in ids], np.int64)
    if len(np.unique(place)) < len(place):
        twice = ids[int(np.flatnonzero(np.bincount(place)[place] > 1)[0])]
        raise ResultsError(f"{path}: image_id {twice!r} is there twice")
    scores = np.full((len(rows), len(classes)), np.nan)
    for name, values in named.items():
        if values.dtype.kind not in "iuf" or np.isinf(values).any():
            raise ResultsError(f"{path}: column {name} must hold finite numbers, NaN where an image has no score")
        scores[place, classes.index(name)] = values
    return scores


def score_fields(classes: Iterable[str]) -> list[str]:
    """What columns of a table of image scores may hold."""
    return ["image", "score", *classes]


def _score_columns(table: TextTable, truth: GroundTruth, columns: Mapping[str, str] | None) -> dict[str, int]:
    """Number of the columns of the images, and of the classes or the one score."""
    path, header, classes = table.path, table.header, truth.images.classes
    if header[: len(_SCORES_OF_PREDICT)] == _SCORES_OF_PREDICT:
        raise ResultsError(
            f"{path}: its image_id are numbers of files that mammo-d2 predict gave, not ids of the ground truth; "
            "name predictions.json beside it, whose files are looked for in the ground truth"
        )
    table.by_column(ResultsError)  # each column once
    places = _named(columns, table, score_fields(classes)).places(header, score_fields(classes))
    usual = [place for place, name in enumerate(header) if name.lower() in BOX_FIELDS["image"]]
    # image_id comes first: others may name the same image by its file.
    usual.sort(key=lambda place: header[place] != "image_id")
    if usual:
        places.setdefault("image", usual[0])
    for name in classes:
        if name in header:
            places.setdefault(name, header.index(name))
    scored = [name for name in classes if name in places]
    if not scored and len(classes) == 1 and "score" in header:
        places.setdefault("score", header.index("score"))
    if "score" in places and (scored or len(classes) > 1):
        del places["score"]
    if "image" not in places or not (scored or "score" in places):
        raise ResultsError(
            f"{path}: the first line must name image_id and at least one of {', '.join(classes)}; "
            f"it names {', '.join(header) or 'nothing'}: name the columns, e.g. --columns Datei=image"
        )
    return places


def _named(columns: Mapping[str, str] | None, table: TextTable, fields: Iterable[str]) -> ColumnNames:
    """``columns`` as ``ColumnNames``; those of one table are checked, those of a command are for it to check."""
    if isinstance(columns, ColumnNames):
        return columns
    names = ColumnNames(columns or {})
    names.check_fields(fields, ResultsError)
    names.places(table.header, fields)
    names.check_found(ResultsError)
    return names


class _Images:
    """Ids of the ground truth's images by what a table may call them."""

    def __init__(self, truth: GroundTruth):
        self._path = truth.path
        self._ids: dict[str, Hashable] = {str(image_id): image_id for image_id in truth.images.ids}

    @cached_property
    def _by_stem(self) -> dict[str, list[tuple[tuple[str, ...], Hashable]]]:
        """Folders and id of the images by their file's stem."""
        found: dict[str, list[tuple[tuple[str, ...], Hashable]]] = {}
        for image in read_json(self._path)["images"]:
            if isinstance(name := image.get("file_name"), str) and name:
                parts = _parts(name)
                found.setdefault(parts[-1], []).append((parts, image["id"]))
        return found

    def find(self, name: str, where: str) -> Hashable:
        if name in self._ids:
            return self._ids[name]
        parts = _parts(name) if name else ("",)
        near = []
        for known, image_id in self._by_stem.get(parts[-1], []):
            length = min(len(parts), len(known))
            if parts[-length:] == known[-length:]:
                near.append(image_id)
        if len(near) == 1:
            return near[0]
        if near:
            raise ResultsError(
                f"{where}: {shown(name)} may be images {near[0]!r} and {near[1]!r}; write more of the path"
            )
        raise ResultsError(f"{where}: {shown(name)} is neither an id nor a file of an image of {self._path}")


def _parts(name: str) -> tuple[str, ...]:
    """Folders and stem of a path, with either slash."""
    path = PurePosixPath(name.replace("\\", "/"))
    return (*path.parts[:-1], path.stem)
