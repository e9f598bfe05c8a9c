"""Predictions on image files: what there is to say about a file, as a record of the result files and as a picture.

All boxes are in pixels of the original files.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xyxy_to_xywh
from mammo_d2.core.identifiers import hashed_identifier
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.reading.image_meta import ImageMeta
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class
from mammo_d2.inference.result_files import (
    box_rows,
    category_ids,
    coco_annotations,
    coco_categories,
    coco_image,
    write_result_files,
)
from mammo_d2.pictures.drawing import class_colors, overlay, save_picture
from mammo_d2.pictures.evidence import Evidence, panels

PICTURE_FOLDER = "pictures"
PICTURE_SIDE = 1024


@dataclass(frozen=True)
class Prediction:
    """What a model says about one file.

    Attributes:
        file: as it was given.
        meta: of the file, with size, patient, laterality, view and pixel spacing as far as the file knows them.
        transform: how the image that the model saw came from the file.
        boxes: (N, 4) float64 XYXY in pixels of the file, by falling score.
        scores: (N,) float64.
        labels: (N,) int64 class numbers.
        image_scores: per class name, of the whole image.
        warnings: what a person should look at.
        picture: the file windowed to 8 bit, at most ``PICTURE_SIDE`` pixels a side, where it was asked for.
        evidence: what the model looked at, on that picture, of methods that say so.
        outside: number of boxes that were left out because they lie beside the breast.
        saliency: (C, h, w) float16 in [0, 1] covering the image that the model saw, of methods that have it.
    """

    file: str
    meta: ImageMeta
    transform: ImageTransform
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    image_scores: Mapping[str, float]
    warnings: tuple[str, ...] = ()
    picture: np.ndarray | None = None
    evidence: Evidence | None = None
    outside: int = 0
    saliency: np.ndarray | None = None

    def at_least(self, threshold: float) -> Prediction:
        """The same without the boxes of a lower score."""
        keep = self.scores >= threshold
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep])

    def with_hashed_ids(self, salt: str = "") -> Prediction:
        """The same with patient and exam identifiers hashed as ``prepare`` does it, unknown ones left unknown."""
        patient, exam, image = (
            hashed_identifier(text, salt) if text else text
            for text in (self.meta.patient_id, self.meta.exam_id, self.meta.sop_instance_uid)
        )
        return replace(self, meta=replace(self.meta, patient_id=patient, exam_id=exam, sop_instance_uid=image))

    def without_picture(self) -> Prediction:
        """The same without the pixels, to keep many."""
        return replace(self, picture=None, evidence=None, saliency=None)


@dataclass(frozen=True)
class FileProblem:
    """A file without prediction, and why."""

    file: str
    problem: str


def prediction_record(
    prediction: Prediction, number: int, classes: Sequence[str], *, keep_ids: bool = True, id_salt: str = ""
) -> dict[str, Any]:
    """The result record (see ``result_files``) of a file that was predicted.

    Args:
        prediction: of the file.
        number: of the file, from 1.
        classes: class names by class number.
        keep_ids: state patient, exam and instance identifiers as they are in the file, instead of hashing them.
        id_salt: secret text in the hashes.
    """
    meta = prediction.meta if keep_ids else prediction.with_hashed_ids(id_salt).meta
    columns = zip(_xywh(prediction), prediction.scores.tolist(), prediction.labels.tolist(), strict=True)
    return {
        "id": number,
        "file_name": writable_name(prediction.file),
        "height": meta.height,
        "width": meta.width,
        "patient_id": meta.patient_id,
        "exam_id": meta.exam_id,
        "laterality": meta.laterality,
        "view": meta.view,
        "pixel_spacing": None if meta.pixel_spacing is None else list(meta.pixel_spacing),
        "pixel_spacing_source": meta.pixel_spacing_source,
        "image_scores": {name: float(score) for name, score in prediction.image_scores.items()},
        "preparation": prediction.transform.to_dict(),
        "boxes": [{"class": classes[label], "score": score, "bbox": box} for box, score, label in columns],
        "outside": prediction.outside,
        "warnings": list(prediction.warnings),
        "instance": meta.sop_instance_uid,
    }


def problem_record(problem: FileProblem, number: int) -> dict[str, Any]:
    """The result record of a file without prediction."""
    return {"id": number, "file_name": writable_name(problem.file), "problem": writable_name(problem.problem)}


def writable_name(text: str) -> str:
    """A file's name as text files have it: bytes that are no UTF-8 (Python's lone surrogates) become escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def predictions_to_coco(
    predictions: Iterable[Prediction], classes: Sequence[str], info: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A complete COCO file: images, categories, and annotations with a score.

    ``file_name`` is the file as it was given; ``preparation`` of an image is the transform to what the model saw (the
    boxes need it no more).
    """
    ids = category_ids(classes)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, prediction in enumerate(predictions, start=1):
        record = prediction_record(prediction, number, classes)
        images.append(coco_image(record))
        annotations += coco_annotations(record, ids, len(annotations) + 1)
    content = {"images": images, "annotations": annotations, "categories": coco_categories(classes)}
    return {"info": dict(info or {}), **content}


def table_rows(predictions: Iterable[Prediction], classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row per box with the columns ``TABLE_COLUMNS``; millimetres only where the file knows its pixel spacing."""
    return [row for n, item in enumerate(predictions, 1) for row in box_rows(prediction_record(item, n, classes))]


def write_predictions(
    folder: str | os.PathLike,
    predictions: Sequence[Prediction],
    problems: Sequence[FileProblem],
    classes: Sequence[str],
    info: Mapping[str, Any] | None = None,
    *,
    keep_ids: bool = False,
    id_salt: str = "",
) -> None:
    """Write ``predictions.json``, ``predictions.csv``, ``image_scores.csv`` and ``errors.csv`` (files left out, and
    warnings) to a folder.

    Args:
        folder: where to write.
        predictions: the files of the result.
        problems: files without prediction.
        classes: class names by class number.
        info: goes to the COCO file.
        keep_ids: write patient and exam identifiers as they are in the files, instead of hashing them. Names of files
            are always written as they were given.
        id_salt: secret text in the hashes.
    """
    records = [
        prediction_record(prediction, number, classes, keep_ids=keep_ids, id_salt=id_salt)
        for number, prediction in enumerate(predictions, start=1)
    ]
    records += [problem_record(problem, number) for number, problem in enumerate(problems, start=len(records) + 1)]
    write_result_files(folder, lambda: records, classes, info)


def write_picture(
    folder: str | os.PathLike, number: int, prediction: Prediction, classes: Sequence[str], top: int = 0
) -> Path:
    """Write the overlay of one prediction, with the part that the model saw framed in grey.

    Several classes have a colour each.

    Args:
        folder: of all output; the picture goes to its sub-folder ``pictures``.
        number: of the file, from 1; keeps files of the same name in different folders apart.
        prediction: made with its ``picture``.
        classes: class names; written at the boxes if there are several.
        top: draw the best boxes of each class only, as many as this; 0 draws all.

    Raises:
        ValueError: the prediction has no picture.
    """
    if prediction.picture is None:
        raise ValueError(f"{prediction.file}: predicted without keeping a picture of the file")
    height, width = prediction.picture.shape
    factor = np.tile([width / prediction.meta.width, height / prediction.meta.height], 2)
    x0, y0, crop_width, crop_height = prediction.transform.crop
    cropped = prediction.transform.crop[2:] != (prediction.meta.width, prediction.meta.height)
    meta = prediction.meta
    words = [Path(prediction.file).name, *(word for word in (meta.laterality, meta.view) if word)]
    scores = [f"{name} {score:.2f}" for name, score in prediction.image_scores.items()]
    rows = best_of_each_class(prediction.scores, prediction.labels, top or max(1, len(prediction.scores)))
    colors, labels = class_colors(classes), prediction.labels[rows]
    picture = overlay(
        prediction.picture,
        predictions=prediction.boxes[rows] * factor,
        scores=prediction.scores[rows].tolist(),
        prediction_labels=[classes[label] for label in labels] if len(classes) > 1 else (),
        prediction_colors=[colors[label] for label in labels],
        region=np.array([x0, y0, x0 + crop_width, y0 + crop_height]) * factor if cropped else None,
        windowed=True,
        caption=f"{' '.join(words)}: {', '.join(scores)}",
    )
    if prediction.evidence is not None:
        beside = panels(prediction.picture, prediction.evidence, classes)
        picture = np.concatenate([picture, *beside], axis=1)
    stem = re.sub(r"[^\w.-]+", "_", Path(prediction.file).stem)
    return save_picture(Path(folder) / PICTURE_FOLDER / f"{number:05d}_{stem}.png", picture)


def _xywh(prediction: Prediction) -> list[list[float]]:
    return xyxy_to_xywh(prediction.boxes.reshape(-1, 4)).tolist()
