"""Boxes of any program in a CSV file: columns found by their usual names, images by id or file name.

The delimiter is a comma, semicolon or tab. Text may be UTF-8, or UTF-16 with a byte order mark, as spreadsheets write
it. Numbers may have a decimal comma where the delimiter is none.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from mammo_d2.core.files import read_json, read_text
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.field_checks import parse_number, shown
from mammo_d2.evaluation.files.results import ResultsError

TABLE_SUFFIXES = (".csv", ".tsv")
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
_OF_PREDICT = ["file", "patient_id", "laterality", "view", "class", "score"]


def read_box_table(
    path: str | os.PathLike[str], truth: GroundTruth, columns: Mapping[str, str] | None = None
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Read boxes as COCO results entries, with the class's name in ``category_id``.

    Args:
        path: the file: a box in each row, in pixels of the ground truth's images.
        truth: the ground truth. An image is named by its id, or by its file with as much of the path as tells it apart,
            with or without suffix. Without a column of classes there must be one class.
        columns: further names of columns, and what they hold (a key of ``BOX_FIELDS``).

    Returns:
        the entries, and the column in which each field was found.

    Raises:
        ResultsError: a missing or ambiguous column, an unknown image, a field that is no number. The message names the
            line.
    """
    path = Path(path)
    header, delimiter, rows = _table(path)
    if header[: len(_OF_PREDICT)] == _OF_PREDICT:
        raise ResultsError(
            f"{path}: a table of mammo-d2 predict, in pixels of the files; name predictions.json beside it, whose "
            "boxes are placed on the ground truth's images"
        )
    places = _find_columns(path, header, columns or {}, len(truth.class_of_name) == 1)
    images = _Images(truth)
    only = next(iter(truth.class_of_name))
    names = {str(number): number for number in (*truth.class_of, *truth.other_ids)}
    entries = []
    for line, values in rows:
        where = f"{path}: line {line}"
        if len(values) != len(header):
            raise ResultsError(f"{where}: {len(values)} fields, but the first line has {len(header)}")
        fields = {field: values[place].strip() for field, place in places.items()}

        def number(field: str, fields: Mapping[str, str] = fields, where: str = where) -> float:
            text = fields[field].replace(",", ".") if delimiter != "," else fields[field]
            value = parse_number(text)
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


def _table(path: Path) -> tuple[list[str], str, list[tuple[int, list[str]]]]:
    """Header, delimiter, and the rows that hold anything with the number of their line."""
    start = path.open("rb").read(2) if path.is_file() else b""
    if start in (b"\xff\xfe", b"\xfe\xff"):
        try:
            text = path.read_bytes().decode("utf-16")
        except UnicodeDecodeError as error:
            raise ResultsError(f"{path}: begins as UTF-16 text, but is none; save it as UTF-8") from error
    else:
        text = read_text(path, error=ResultsError)
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [name.strip() for name in next(reader, [])]
        rows = [(reader.line_num, values) for values in reader if any(value.strip() for value in values)]
    except csv.Error as cause:
        raise ResultsError(f"{path}: line {reader.line_num}: {cause}; is a quotation mark not closed?") from cause
    return header, delimiter, rows


def _find_columns(path: Path, header: Sequence[str], given: Mapping[str, str], one_class: bool) -> dict[str, int]:
    """Number of each field's column."""
    lower = [name.lower() for name in header]
    places: dict[str, int] = {}
    for column, field in given.items():
        if field not in BOX_FIELDS:
            raise ResultsError(f"--columns {column}={field}: {field!r} must be one of {', '.join(BOX_FIELDS)}")
        if column not in header:
            raise ResultsError(f"{path}: no column {column!r}; the first line names {', '.join(header) or 'nothing'}")
        places[field] = header.index(column)
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


class _Images:
    """Ids of the ground truth's images by what a table may call them."""

    def __init__(self, truth: GroundTruth):
        self._path = truth.path
        self._ids: dict[str, Hashable] = {str(image_id): image_id for image_id in truth.images.ids}
        self._by_stem: dict[str, list[tuple[tuple[str, ...], Hashable]]] = {}
        for image in read_json(truth.path)["images"]:
            if isinstance(name := image.get("file_name"), str) and name:
                parts = _parts(name)
                self._by_stem.setdefault(parts[-1], []).append((parts, image["id"]))

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
