"""Detections of any program into a table: COCO results, predictions.json of mammo-d2 predict, npz and Parquet.

What is dropped and counted is what the COCO tools leave out as well (detections of categories that are not evaluated).
Everything else that they would accept in silence is an error: NaN or infinite numbers, negative box sizes, unknown
images, image ids of another type than the ground truth's.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy, xyxy_to_xywh
from mammo_d2.core.fast_json import no_collection, parse_quickly
from mammo_d2.core.files import text_problem, write_json
from mammo_d2.core.table_files import TABLE_SUFFIXES
from mammo_d2.evaluation.files.box_tables import read_box_table
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.column_files import COLUMN_SUFFIXES, read_columns, write_columns
from mammo_d2.evaluation.files.field_checks import (
    LARGEST_COORDINATE,
    check_box,
    check_id,
    check_inside,
    holds_object,
    is_number,
    require_fields,
    shown,
)
from mammo_d2.evaluation.files.predicted_files import read_predicted
from mammo_d2.evaluation.files.results import RESULTS_FILE, SOURCE_RESULTS_FILE, ResultsError, detections_to_coco
from mammo_d2.evaluation.metrics.tables import DetectionTable, ImageTable, empty_detections, repeated_rows

_PIECE = 1 << 24  # characters of a results file parsed at a time
_FIELDS = itemgetter("image_id", "category_id", "bbox", "score")
_BORDER = re.compile(r"\}\s*,(?=\s*\{)")
#: Columns of detections in a .npz or .parquet file; the box is XYWH as in COCO results.
DETECTION_COLUMNS = ("image_id", "category_id", "x", "y", "width", "height", "score")


def _last_border(text: str) -> int:
    """Where the last object begins that follows another one (just behind the comma), 0 if there is none."""
    for tail in (1 << 13, len(text)):
        first = max(len(text) - tail, 0)
        if ends := [match.end() for match in _BORDER.finditer(text, first)]:
            return ends[-1]
    return 0


def _parsed(text: str, quickly: bool) -> list[Any]:
    entries = parse_quickly(text) if quickly else None
    return json.loads(text) if entries is None else entries


def iterate_results(path: str | os.PathLike, quickly: bool = True) -> Iterator[list[Any]]:
    """Yield the entries of a COCO results file in lists, without ever holding the whole file as Python objects.

    Args:
        path: the file.
        quickly: by orjson where it is installed; whole numbers beyond 64 bits become floats.

    Raises:
        ResultsError: the file is not a JSON list.
    """
    path = Path(path)
    with open(path, "rb") as start:
        if problem := text_problem(start.read(100)):
            raise ResultsError(f"{path}: {problem}")
    with open(path, encoding="utf-8-sig") as stream:
        try:
            text = stream.read(_PIECE).lstrip()
            if not text.startswith("["):
                raise ResultsError(
                    f"{path}: a COCO results file is a list of {{image_id, category_id, bbox, score}}, "
                    f"not something that starts with {text[:20]!r}"
                )
            text, more = text[1:], True
            while more:
                piece = stream.read(_PIECE)
                more = bool(piece)
                # Cut after the last object that is followed by another one; an object may hold objects itself, then
                # the part does not parse and waits for more text.
                cut = _last_border(text) if more else 0
                if cut:
                    try:
                        entries = _parsed(f"[{text[: cut - 1]}]", quickly)
                    except json.JSONDecodeError:
                        entries = None
                    if entries is not None:
                        yield entries
                        text = text[cut:]
                text += piece
            yield _parsed(f"[{text}", quickly)
        except UnicodeDecodeError as error:
            raise ResultsError(f"{path}: not UTF-8 text ({error.reason}; is it Latin-1?); save it as UTF-8") from error
        except json.JSONDecodeError as error:
            raise ResultsError(f"{path}: not a JSON file ({error})") from error
        except ResultsError:
            raise
        except (RecursionError, ValueError) as error:
            raise ResultsError(f"{path}: nested too deeply, or a number of thousands of digits") from error


@no_collection()
def load_detections(
    path: str | os.PathLike,
    truth: GroundTruth,
    progress: Callable[[int], None] | None = None,
    columns: Mapping[str, str] | None = None,
) -> tuple[DetectionTable, dict[str, int]]:
    """Read a COCO results file, ``predictions.json`` of mammo-d2 predict, or a table, against a ground truth.

    Args:
        path: the file; a table is a .npz or .parquet file with the columns ``DETECTION_COLUMNS``, or a .csv or .tsv
            file, see ``read_box_table``.
        truth: the ground truth.
        progress: called with the number of detections read since the last call.
        columns: names of columns of a .csv file, and what they hold.

    Returns:
        the detections of the evaluated classes, and counts of what was left out.

    Raises:
        ResultsError: neither kind of file, a missing field, an unknown image or category, an image id of another type,
            a NaN or infinite score or coordinate, a negative width or height (the message names the entry); COCO
            results in other pixels than the ground truth's: those of the source files, or fractions of the image.
    """
    path = Path(path)
    rows = {image_id: row for row, image_id in enumerate(truth.images.ids)}
    labels: Mapping[Any, int] = {**truth.class_of, **dict.fromkeys(truth.other_ids, -1)}
    notes: dict[str, int] = {}
    # Boxes on source files may lie outside of what was cut out of them.
    sizes: np.ndarray | None = truth.images.size
    lists: Iterator[Sequence[Any]]
    if path.suffix.lower() in COLUMN_SUFFIXES:
        lists = iter([_Columns(path)])
    elif path.suffix.lower() in TABLE_SUFFIXES:
        found, understood = read_box_table(path, truth, columns)
        lists, labels = iter([found]), {**labels, **truth.class_of_name}
        told = ", ".join(f"{field} from {column}" for field, column in understood.items())
        notes[f"boxes read: {told}"] = len(found)
    elif not holds_object(path):
        # An id beyond 64 bits must not become a float.
        lists = iterate_results(path, not any(type(i) is int and abs(i) >= 2**63 for i in rows))
    else:
        predicted = read_predicted(path, truth.path)
        lists, labels, notes = iter([predicted.entries]), truth.class_of_name, dict(predicted.notes)
        sizes = None
    if path.name == SOURCE_RESULTS_FILE and truth.is_moved:
        raise ResultsError(
            f"{path}: its boxes are in pixels of the source files, those of {truth.path} in pixels of the prepared "
            f"images; evaluate {RESULTS_FILE} beside it"
        )
    parts: list[DetectionTable] = []
    start = left_out = 0
    reader = _Reader(path, rows, labels, sizes)
    for entries in lists:
        part, others = reader.table(entries, start)
        parts.append(part)
        left_out += others
        start += len(entries)
        if progress is not None:
            progress(len(entries))
    table = DetectionTable(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("boxes", "scores", "image", "label"))
    )
    if sizes is not None and len(table) and table.boxes.max() <= 1:
        raise ResultsError(
            f"{path}: every box lies within the first pixel; boxes are in pixels, not in fractions of the image"
        )
    if left_out:
        notes["detections of other categories"] = left_out
    if repeated := repeated_rows(table.image, table.label, table.boxes, table.scores):
        notes["detections that are there again (counted each time)"] = repeated
    return table, notes


class _Columns(Sequence):
    """Detections of a file of columns; an item is an entry as in COCO results, for messages."""

    def __init__(self, path: Path) -> None:
        columns = read_columns(path, DETECTION_COLUMNS)
        self.image_ids, self.categories = columns["image_id"], columns["category_id"]
        for name in DETECTION_COLUMNS[2:]:
            if columns[name].dtype.kind not in "iuf":
                raise ResultsError(f"{path}: column {name} holds {columns[name].dtype}, not numbers")
        self.boxes = np.column_stack([columns[name].astype(np.float64) for name in DETECTION_COLUMNS[2:6]])
        self.scores = columns["score"].astype(np.float64)

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, number):
        image, category = self.image_ids[number : number + 1].tolist(), self.categories[number : number + 1].tolist()
        score = float(self.scores[number])
        return {"image_id": image[0], "category_id": category[0], "bbox": self.boxes[number].tolist(), "score": score}


def write_detections(
    path: str | os.PathLike, detections: DetectionTable, images: ImageTable, category_ids: Sequence[int]
) -> Path:
    """Write detections as COCO results, or as a table that is read many times sooner.

    Args:
        path: .npz, .parquet (needs pyarrow), or any other name for JSON.
        detections: boxes XYXY.
        images: whose ids are written.
        category_ids: id of each class.
    """
    path = Path(path)
    if path.suffix.lower() not in COLUMN_SUFFIXES:
        return write_json(path, detections_to_coco(detections, images, category_ids), indent=None)
    order = np.lexsort((-detections.scores, detections.image))
    found = detections.take(order)
    boxes = xyxy_to_xywh(found.boxes)
    values = (np.array(images.ids)[found.image], np.array(category_ids)[found.label], *boxes.T, found.scores)
    return write_columns(path, dict(zip(DETECTION_COLUMNS, values, strict=True)))


@dataclass(frozen=True)
class _Reader:
    """Entries of one file as tables: ``rows`` of the images and ``labels`` of the categories by id (-1: not evaluated),
    ``sizes`` (N, 2) of the images where centres of boxes must lie inside."""

    path: Path
    rows: Mapping[Hashable, int]
    labels: Mapping[Any, int]
    sizes: np.ndarray | None

    def table(self, entries: Sequence[Any], start: int) -> tuple[DetectionTable, int]:
        """One list of entries as a table, and how many detections were of categories not evaluated.

        Raises:
            ResultsError: an entry that is none; ``start`` is the number of the first.
        """
        if not len(entries):
            return empty_detections(), 0
        try:
            image, label, boxes, scores = self._columns(entries)
        except (KeyError, TypeError, ValueError, OverflowError):
            for number, entry in enumerate(entries):
                _check_entry(entry, self.rows, self.labels, f"{self.path}: entry {start + number}")
            last = start + len(entries) - 1
            raise ResultsError(f"{self.path}: entries {start} to {last} are not COCO results") from None
        bad = ~np.isfinite(scores) | ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
        bad |= (np.abs(boxes) > LARGEST_COORDINATE).any(axis=1)
        if bad.any():
            number = int(np.argmax(bad))
            _check_entry(entries[number], self.rows, self.labels, f"{self.path}: entry {start + number}")
        if self.sizes is not None:
            height, width = self.sizes[image].T
            centre = boxes[:, :2] + boxes[:, 2:] / 2
            outside = (centre < 0).any(axis=1) | (centre[:, 0] > width) | (centre[:, 1] > height)
            if outside.any():
                number = int(np.argmax(outside))
                where = f"{self.path}: entry {start + number}"
                check_inside(boxes[number].tolist(), float(height[number]), float(width[number]), where)
        mine = label >= 0
        table = DetectionTable(xywh_to_xyxy(boxes), scores, image, label)
        return (table if mine.all() else table.take(mine)), int((~mine).sum())

    def _columns(self, entries: Sequence[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Image rows, labels, boxes (n, 4) XYWH and scores; some error where an entry is not as it should be."""
        if isinstance(entries, _Columns):
            image, label = _numbers_of(entries.image_ids, self.rows), _numbers_of(entries.categories, self.labels)
            return image, label, entries.boxes, entries.scores
        image_ids, categories, corners, scored = zip(*map(_FIELDS, entries), strict=True)
        image = np.fromiter(map(self.rows.__getitem__, image_ids), np.int64, len(entries))
        label = np.fromiter(map(self.labels.__getitem__, categories), np.int64, len(entries))
        if {*map(type, corners)} != {list} or {*map(len, corners)} != {4}:
            raise ValueError("a box of another form")
        sides = list(chain.from_iterable(corners))
        # Numbers written as text would turn into numbers, true would pass for 1: errors like any other wrong type.
        if not {*map(type, sides), *map(type, scored)} <= {float, int}:
            raise TypeError("no number")
        if bool in {*map(type, image_ids), *map(type, categories)}:
            raise TypeError("no id")
        boxes = np.fromiter(sides, np.float64, len(sides)).reshape(-1, 4)
        return image, label, boxes, np.fromiter(scored, np.float64, len(scored))


def _numbers_of(values: np.ndarray, known: Mapping[Any, int]) -> np.ndarray:
    """Number of each value; KeyError for an unknown one."""
    found, inverse = np.unique(values, return_inverse=True)
    return np.array([known[value] for value in found.tolist()], np.int64)[inverse]


def _check_entry(entry: Any, rows: Mapping[Hashable, int], labels: Mapping[Any, int], where: str) -> None:
    """Raise the named error of one results entry, if it has one."""
    require_fields(entry, ("image_id", "category_id", "bbox", "score"), where)
    image_id, category, box, score = (entry[key] for key in ("image_id", "category_id", "bbox", "score"))
    if isinstance(image_id, bool) or not isinstance(image_id, (int, float, str)):
        check_id(image_id, where, "image_id")
    if image_id not in rows:
        known = next(iter(rows), None)
        if known is not None and type(known) is not type(image_id) and any(str(i) == str(image_id) for i in rows):
            raise ResultsError(
                f"{where}: image_id {image_id!r} is a {type(image_id).__name__}, the ground truth's ids are "
                f"{type(known).__name__}; write the ids as the ground truth has them"
            )
        raise ResultsError(f"{where}: image_id {image_id!r} is not in the ground truth; is it of another data set?")
    if isinstance(category, bool) or not isinstance(category, Hashable) or category not in labels:
        raise ResultsError(
            f"{where}: category_id {category!r} is not in the ground truth, which has {sorted(labels, key=str)}; a "
            "class made of several is named with --merge"
        )
    check_box(box, where)
    if not is_number(score):
        raise ResultsError(f"{where}: score {shown(score)} must be a finite number")
