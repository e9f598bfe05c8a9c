"""COCO ground truth into tables; a bad entry raises a named error.

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
from mammo_d2.core.fast_json import no_collection
from mammo_d2.core.files import read_json
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.evaluation.files.field_checks import (
    category_names,
    check_id,
    check_inside,
    check_truth_annotation,
    check_truth_image,
    require_fields,
    require_list,
    shown,
)
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
