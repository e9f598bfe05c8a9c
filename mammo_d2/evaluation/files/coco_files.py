"""COCO ground truth, COCO results and image scores into tables; a bad entry raises a named error.

What is dropped and counted is what the COCO tools leave out as well (detections of categories that are not evaluated).
Everything else that they would accept in silence is an error: NaN or infinite numbers, negative box sizes, unknown
images, image ids of another type than the ground truth's.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import XYWH_ABS, xywh_to_xyxy
from mammo_d2.core.csv_files import read_csv
from mammo_d2.core.files import read_json, text_problem
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.evaluation.files.field_checks import (
    LARGEST_COORDINATE,
    category_names,
    check_box,
    check_id,
    check_inside,
    check_truth_annotation,
    check_truth_image,
    is_number,
    parse_number,
    require_fields,
    require_list,
    shown,
)
from mammo_d2.evaluation.files.image_scores import read_image_scores
from mammo_d2.evaluation.files.predicted_files import read_predicted
from mammo_d2.evaluation.files.results import RESULTS_FILE, SOURCE_RESULTS_FILE, ResultsError
from mammo_d2.evaluation.metrics.scores.levels import combine_truth
from mammo_d2.evaluation.metrics.tables import (
    DetectionTable,
    EvaluationData,
    ImageTable,
    LesionTable,
    empty_detections,
    images_from_records,
    lesions_from_records,
)

_PIECE = 1 << 24  # characters of a results file parsed at a time
# How the table of image scores of mammo-d2 predict begins.
_FILE_COLUMNS = ["image_id", "file", "patient_id", "laterality", "view"]
_BORDER = re.compile(r"\}\s*,(?=\s*\{)")


# --- ground truth -----------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class GroundTruth:
    """A COCO ground-truth file as tables.

    Attributes:
        path: the file.
        images, lesions: its tables, boxes XYXY.
        class_of: class of each category id of the file that is evaluated, by class.
        other_ids: category ids that are not evaluated.
        class_of_name: class of each category's name, and of that of merged ones; -1 of those that are not evaluated.
        notes: what was left out, with its count.
        is_moved: an image was cropped, flipped or scaled when it was prepared.
    """

    path: str
    images: ImageTable
    lesions: LesionTable
    class_of: Mapping[int, int]
    other_ids: tuple[int, ...]
    class_of_name: Mapping[str, int]
    notes: Mapping[str, int]
    is_moved: bool = False

    def data(self, detections: DetectionTable | None = None) -> EvaluationData:
        return EvaluationData(self.images, self.lesions, detections or empty_detections(), self.notes)


def load_ground_truth(
    path: str | os.PathLike, classes: Sequence[str] = (), ignore: Sequence[str] = (), merge: str = ""
) -> GroundTruth:
    """Read a COCO ground-truth file.

    Args:
        path: COCO JSON; this package's image keys (patient_id, laterality, labels, …) are used where present.
        classes: category names to evaluate, in class order; empty means all, by category id.
        ignore: category names whose findings may be hit without counting either way.
        merge: if not empty, the one class that all ``classes`` become.

    Raises:
        ResultsError: no COCO file; a field of the wrong type or out of range; duplicate ids or category names; an
            annotation of an unknown image or category; classes named twice or that the file does not have.
    """
    path = Path(path)
    content = read_json(path, error=ResultsError)
    if not isinstance(content, Mapping) or not isinstance(content.get("images"), list):
        raise ResultsError(f"{path}: not a COCO ground-truth file (an object with images, annotations, categories)")
    require_fields(content, ("images", "annotations", "categories"), str(path))
    annotations = require_list(content, "annotations", str(path))
    names = category_names(require_list(content, "categories", str(path)), str(path))
    by_name = {name: number for number, name in names.items()}
    unknown = [name for name in (*classes, *ignore) if name not in by_name]
    if unknown:
        raise ResultsError(
            f"{path}: no category named {unknown[0]!r}; it has {', '.join(sorted(by_name))}. A class made of several "
            f"(DATASETS.MERGE_CATEGORIES) is named with --merge {unknown[0]}, and what it is made of with --classes"
        )
    named = [*classes, *ignore]
    if twice := [name for place, name in enumerate(named) if name in named[:place]]:
        raise ResultsError(f"class {twice[0]!r} is named twice among the classes evaluated and those ignored")
    chosen = list(classes) or [names[number] for number in sorted(names) if names[number] not in ignore]
    if merge in by_name and merge not in chosen:
        raise ResultsError(
            f"{path}: --merge {merge} is a category that is not among those merged ({', '.join(chosen)}); choose "
            "another name"
        )
    contiguous = {by_name[name]: label for label, name in enumerate(chosen)}
    ignored = {by_name[name] for name in ignore}

    records: dict[Hashable, dict] = {}
    as_text: dict[str, Hashable] = {}
    patients: dict[str, Hashable] = {}
    is_moved = False
    for number, image in enumerate(content["images"]):
        where = f"{path}: images[{number}]"
        require_fields(image, ("id",), where)
        check_truth_image(image, list(by_name), where)
        if image["id"] in records:
            raise ResultsError(f"{where}: id {image['id']!r} is there twice; image ids must be unique")
        # As text, in a CSV, 1 and "1" are the same image, and one patient would be two.
        for key, seen in (("id", as_text), ("patient_id", patients)):
            value = image.get(key)
            if value is not None and type(seen.setdefault(str(value), value)) is not type(value):
                raise ResultsError(f"{where}: {key} is {value!r} here and {seen[str(value)]!r} before; write one type")
        is_moved = is_moved or _is_moved(image, where)
        records[image["id"]] = {**image, "image_id": image["id"], "annotations": []}
    annotation_ids: set[Hashable] = set()
    swallowing: list[tuple[Hashable, dict]] = []
    left_out = 0
    for number, annotation in enumerate(annotations):
        where = f"{path}: annotations[{number}]"
        require_fields(annotation, ("image_id", "category_id", "bbox"), where)
        check_truth_annotation(annotation, where)
        if (annotation_id := annotation.get("id")) is not None:
            check_id(annotation_id, where)
            if annotation_id in annotation_ids:
                raise ResultsError(f"{where}: id {annotation_id!r} is there twice; annotation ids must be unique")
            annotation_ids.add(annotation_id)
        if annotation["image_id"] not in records:
            raise ResultsError(f"{where}: image_id {annotation['image_id']!r} is not among the images")
        category_id = annotation["category_id"]
        if isinstance(category_id, bool) or not isinstance(category_id, int) or category_id not in names:
            raise ResultsError(f"{where}: category_id {shown(category_id)} is not among the categories")
        check_inside(annotation["bbox"], *_size_of(records[annotation["image_id"]]), where)
        if annotation["category_id"] in contiguous:
            label = contiguous[annotation["category_id"]]
            records[annotation["image_id"]]["annotations"].append(
                {**annotation, "category_id": label, "bbox_mode": XYWH_ABS}
            )
        elif annotation["category_id"] in ignored:
            swallowing.append((annotation["image_id"], annotation))
        else:
            left_out += 1
    images = images_from_records(list(records.values()), chosen)
    # Only now: a finding to be ignored must not make its image positive.
    for image_id, annotation in swallowing:
        records[image_id]["annotations"] += [
            {**annotation, "category_id": label, "bbox_mode": XYWH_ABS, "ignore": 1}
            for label in range(1 if merge else len(chosen))
        ]
    lesions = lesions_from_records(list(records.values()))
    if merge:
        images = replace(images, classes=(merge,), truth=combine_truth(images.truth)[:, np.newaxis])
        lesions = replace(lesions, label=np.zeros_like(lesions.label))
        contiguous = dict.fromkeys(contiguous, 0)
    notes = {"annotations of other categories": left_out} if left_out else {}
    if repeated := _repeated(lesions.image, lesions.label, lesions.boxes):
        notes["lesions that are there again (counted each time)"] = repeated
    if without := int((~images.patient_known).sum()):
        notes["images without patient_id (each its own patient)"] = without
    others = tuple(number for number in names if number not in contiguous)
    class_of_name = {name: contiguous.get(number, -1) for number, name in names.items()} | ({merge: 0} if merge else {})
    return GroundTruth(str(path), images, lesions, contiguous, others, class_of_name, notes, is_moved)


def _is_moved(image: Mapping[str, Any], where: str) -> bool:
    """Whether the pixels of an image are not those of its source file."""
    if image.get("transform") is None:
        return False
    try:
        return not ImageTransform.from_dict(image["transform"]).is_identity
    except ValueError as error:
        raise ResultsError(f"{where}: {error}") from error


def _size_of(image: Mapping[str, Any]) -> tuple[float, float]:
    """Height and width, NaN where unknown."""
    return image.get("height") or math.nan, image.get("width") or math.nan


# --- detections -------------------------------------------------------------------------------------------------
def _last_border(text: str) -> int:
    """Where the last object begins that follows another one (just behind the comma), 0 if there is none."""
    for tail in (1 << 13, len(text)):
        first = max(len(text) - tail, 0)
        if ends := [match.end() for match in _BORDER.finditer(text, first)]:
            return ends[-1]
    return 0


def iterate_results(path: str | os.PathLike) -> Iterator[list[Any]]:
    """Yield the entries of a COCO results file in lists, without ever holding the whole file as Python objects.

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
                        entries = json.loads(f"[{text[: cut - 1]}]")
                    except json.JSONDecodeError:
                        entries = None
                    if entries is not None:
                        yield entries
                        text = text[cut:]
                text += piece
            yield json.loads(f"[{text}")
        except UnicodeDecodeError as error:
            raise ResultsError(f"{path}: not UTF-8 text ({error.reason}; is it Latin-1?); save it as UTF-8") from error
        except json.JSONDecodeError as error:
            raise ResultsError(f"{path}: not a JSON file ({error})") from error
        except ResultsError:
            raise
        except (RecursionError, ValueError) as error:
            raise ResultsError(f"{path}: nested too deeply, or a number of thousands of digits") from error


def load_detections(path: str | os.PathLike, truth: GroundTruth) -> tuple[DetectionTable, dict[str, int]]:
    """Read a COCO results file, or ``predictions.json`` of mammo-d2 predict, against a ground truth.

    Args:
        path: the file.
        truth: the ground truth.

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
    lists, notes = iterate_results(path), {}
    # Boxes on source files may lie outside of what was cut out of them.
    sizes: np.ndarray | None = truth.images.size
    if _is_object(path):
        predicted = read_predicted(path, truth.path)
        lists, labels, notes = iter([predicted.entries]), truth.class_of_name, dict(predicted.notes)
        sizes = None
    elif path.name == SOURCE_RESULTS_FILE and truth.is_moved:
        raise ResultsError(
            f"{path}: its boxes are in pixels of the source files, those of {truth.path} in pixels of the prepared "
            f"images; evaluate {RESULTS_FILE} beside it"
        )
    parts: list[DetectionTable] = []
    start = left_out = 0
    for entries in lists:
        part, others = _table_of(entries, rows, labels, sizes, path, start)
        parts.append(part)
        left_out += others
        start += len(entries)
    table = DetectionTable(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("boxes", "scores", "image", "label"))
    )
    if sizes is not None and len(table) and table.boxes.max() <= 1:
        raise ResultsError(
            f"{path}: every box lies within the first pixel; boxes are in pixels, not in fractions of the image"
        )
    if left_out:
        notes["detections of other categories"] = left_out
    if repeated := _repeated(table.image, table.label, table.boxes, table.scores):
        notes["detections that are there again (counted each time)"] = repeated
    return table, notes


def _repeated(*columns: np.ndarray) -> int:
    """How many rows of a table equal another row before them."""
    rows = np.column_stack([column.astype(np.float64) for column in columns])
    return len(rows) - len(np.unique(rows, axis=0))


def _is_object(path: Path) -> bool:
    """Whether a JSON file holds an object, not a list."""
    with open(path, "rb") as stream:
        return stream.read(100).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _table_of(
    entries: list[Any],
    rows: Mapping[Hashable, int],
    labels: Mapping[Any, int],
    sizes: np.ndarray | None,
    path: Path,
    start: int,
) -> tuple[DetectionTable, int]:
    """One list of entries as a table, and how many detections were of categories not evaluated."""
    if not entries:
        return empty_detections(), 0
    try:
        image = np.array([rows[entry["image_id"]] for entry in entries], np.int64)
        label = np.array([labels[entry["category_id"]] for entry in entries], np.int64)
        boxes = np.array([entry["bbox"] for entry in entries])
        scores = np.array([entry["score"] for entry in entries])
        plain = boxes.shape == (len(entries), 4) and scores.shape == (len(entries),)
        # Numbers written as text would turn into numbers here; they are an error like any other wrong type.
        plain = plain and boxes.dtype.kind in "iuf" and scores.dtype.kind in "iuf"
        # true would pass for 1.
        types = {type(entry[key]) for entry in entries for key in ("image_id", "category_id", "score")}
        plain = plain and bool not in types | {type(value) for entry in entries for value in entry["bbox"]}
    except (KeyError, TypeError, ValueError):
        plain = False
    if not plain:
        for number, entry in enumerate(entries):
            _check_entry(entry, rows, labels, f"{path}: entry {start + number}")
        raise ResultsError(f"{path}: entries {start} to {start + len(entries) - 1} are not COCO results")
    boxes, scores = boxes.astype(float), scores.astype(float)
    bad = ~np.isfinite(scores) | ~np.isfinite(boxes).all(axis=1) | (boxes[:, 2:] < 0).any(axis=1)
    bad |= (np.abs(boxes) > LARGEST_COORDINATE).any(axis=1)
    if bad.any():
        number = int(np.argmax(bad))
        _check_entry(entries[number], rows, labels, f"{path}: entry {start + number}")
    if sizes is not None:
        centre, height, width = boxes[:, :2] + boxes[:, 2:] / 2, sizes[image, 0], sizes[image, 1]
        outside = (centre < 0).any(axis=1) | (centre[:, 0] > width) | (centre[:, 1] > height)
        if outside.any():
            number = int(np.argmax(outside))
            where = f"{path}: entry {start + number}"
            check_inside(boxes[number].tolist(), float(height[number]), float(width[number]), where)
    mine = label >= 0
    table = DetectionTable(xywh_to_xyxy(boxes), scores, image, label)
    return (table if mine.all() else table.take(mine)), int((~mine).sum())


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


# --- image scores -----------------------------------------------------------------------------------------------
def load_image_scores(path: str | os.PathLike, truth: GroundTruth) -> np.ndarray:
    """Read image scores: ``image_scores.json`` of a run, ``predictions.json`` of mammo-d2 predict, or a CSV.

    A CSV has ``image_id`` and one column per class.
    With a single class the column may also be named ``score``. Other columns are not read. A JSON file must score
    every image of the ground truth.

    Returns:
        (N, C) float64, NaN for images or classes that the file does not score.

    Raises:
        ResultsError: a missing column, an unknown or repeated image, a score that is no finite number (named by line).
    """
    path = Path(path)
    classes = truth.images.classes
    if path.suffix.lower() == ".json":
        if _is_object(path):
            scored = read_predicted(path, truth.path).image_scores
            return np.array([[scored.get(i, {}).get(c, np.nan) for c in classes] for i in truth.images.ids], float)
        return read_image_scores(path).arranged(truth.images.ids, classes, truth.path)
    rows = {str(image_id): row for row, image_id in enumerate(truth.images.ids)}
    scores = np.full((len(rows), len(classes)), np.nan)
    seen: set[int] = set()
    header, entries = read_csv(path, error=ResultsError)
    if header[: len(_FILE_COLUMNS)] == _FILE_COLUMNS:
        raise ResultsError(
            f"{path}: its image_id are numbers of files that mammo-d2 predict gave, not ids of the ground truth; "
            "name predictions.json beside it, whose files are looked for in the ground truth"
        )
    columns = {name: label for label, name in enumerate(classes) if name in header}
    if not columns and len(classes) == 1 and "score" in header:
        columns = {"score": 0}
    if "image_id" not in header or not columns:
        raise ResultsError(
            f"{path}: the first line must name image_id and at least one of {', '.join(classes)}; "
            f"it names {', '.join(header) or 'nothing'}"
        )
    for number, entry in entries:
        where = f"{path}: line {number}"
        row = rows.get(entry["image_id"])
        if row is None:
            raise ResultsError(f"{where}: image_id {entry['image_id']!r} is not in the ground truth")
        if row in seen:
            raise ResultsError(f"{where}: image_id {entry['image_id']!r} is there twice")
        seen.add(row)
        for name, label in columns.items():
            text = entry[name]
            value = parse_number(text) if text else math.nan
            if value is None:
                raise ResultsError(f"{where}: {name} {text!r} is no finite number; leave it empty if unknown")
            scores[row, label] = value
    return scores
