"""COCO ground truth and image scores into tables; a bad entry raises a named error.

What is dropped and counted is what the COCO tools leave out as well (detections of categories that are not evaluated).
Everything else that they would accept in silence is an error: NaN or infinite numbers, negative box sizes, unknown
images, image ids of another type than the ground truth's.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import XYWH_ABS
from mammo_d2.core.csv_files import read_csv
from mammo_d2.core.fast_json import no_collection
from mammo_d2.core.files import read_json
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.evaluation.files.column_files import COLUMN_SUFFIXES, read_columns
from mammo_d2.evaluation.files.field_checks import (
    category_names,
    check_id,
    check_inside,
    check_truth_annotation,
    check_truth_image,
    holds_object,
    parse_number,
    require_fields,
    require_list,
    shown,
)
from mammo_d2.evaluation.files.image_scores import read_image_scores
from mammo_d2.evaluation.files.predicted_files import read_predicted
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.scores.levels import combine_truth
from mammo_d2.evaluation.metrics.tables import (
    DetectionTable,
    EvaluationData,
    ImageTable,
    LesionTable,
    empty_detections,
    images_from_records,
    lesions_from_records,
    repeated_rows,
)

# How the table of image scores of mammo-d2 predict begins.
_FILE_COLUMNS = ["image_id", "file", "patient_id", "laterality", "view"]


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


@no_collection()
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
    if repeated := repeated_rows(lesions.image, lesions.label, lesions.boxes):
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


# --- image scores -----------------------------------------------------------------------------------------------
def load_image_scores(path: str | os.PathLike, truth: GroundTruth) -> np.ndarray:
    """Read image scores: ``image_scores.json`` of a run, ``predictions.json`` of mammo-d2 predict, or a table.

    A table (.csv, .npz or .parquet) has ``image_id`` and one column per class; an empty cell, or NaN, is no score.
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
        if holds_object(path):
            scored = read_predicted(path, truth.path).image_scores
            return np.array([[scored.get(i, {}).get(c, np.nan) for c in classes] for i in truth.images.ids], float)
        return read_image_scores(path).arranged(truth.images.ids, classes, truth.path)
    if path.suffix.lower() in COLUMN_SUFFIXES:
        return _scores_of_columns(path, truth)
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
