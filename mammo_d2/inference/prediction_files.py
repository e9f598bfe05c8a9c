"""Predictions on image files: what there is to say about a file, and the files that say it (COCO JSON, CSV, pictures).

All boxes are in pixels of the original files.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from mammo_d2.core.boxes import xyxy_to_xywh
from mammo_d2.core.files import write_bytes_atomic, write_json
from mammo_d2.core.identifiers import hashed_identifier
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.core.lesion_classes import CATEGORIES
from mammo_d2.data.reading.image_meta import ImageMeta
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class
from mammo_d2.pictures.drawing import class_colors, overlay, save_picture
from mammo_d2.pictures.evidence import Evidence, panels

COCO_FILE, TABLE_FILE, ERROR_FILE, PICTURE_FOLDER = "predictions.json", "predictions.csv", "errors.csv", "pictures"
SCORE_FILE, SCORE_COLUMNS = "image_scores.csv", ("image_id", "file", "patient_id", "laterality", "view")
PICTURE_SIDE = 1024

TABLE_COLUMNS = (
    "file", "patient_id", "laterality", "view", "class", "score",
    "x", "y", "width", "height", "x_mm", "y_mm", "width_mm", "height_mm",
)  # fmt: skip


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
        return replace(self, picture=None, evidence=None)


@dataclass(frozen=True)
class FileProblem:
    """A file without prediction, and why."""

    file: str
    problem: str


def category_ids(classes: Sequence[str]) -> dict[str, int]:
    """COCO category id of each class: those of the package's format for its names, the next free ones for others."""
    known = {str(category["name"]): cast(int, category["id"]) for category in CATEGORIES}
    others = iter(range(len(known) + 1, len(known) + 1 + len(classes)))
    return {name: known[name] if name in known else next(others) for name in classes}


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
    for image_id, prediction in enumerate(predictions, start=1):
        meta = prediction.meta
        images.append(
            {
                "id": image_id,
                "file_name": prediction.file,
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
            }
        )
        columns = zip(_xywh(prediction), prediction.scores.tolist(), prediction.labels.tolist(), strict=True)
        for box, score, label in columns:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": ids[classes[label]],
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                    "score": score,
                }
            )
    categories = [{"id": number, "name": name} for name, number in sorted(ids.items(), key=lambda item: item[1])]
    return {"info": dict(info or {}), "images": images, "annotations": annotations, "categories": categories}


def table_rows(predictions: Iterable[Prediction], classes: Sequence[str]) -> list[dict[str, Any]]:
    """One row per box with the columns ``TABLE_COLUMNS``; millimetres only where the file knows its pixel spacing."""
    rows = []
    for prediction in predictions:
        meta = prediction.meta
        columns = zip(_xywh(prediction), prediction.scores.tolist(), prediction.labels.tolist(), strict=True)
        for (x, y, width, height), score, label in columns:
            row = {
                "file": prediction.file,
                "patient_id": meta.patient_id,
                "laterality": meta.laterality,
                "view": meta.view,
                "class": classes[label],
                "score": round(score, 6),
            }
            row |= {
                name: round(value, 3) for name, value in zip(TABLE_COLUMNS[6:10], (x, y, width, height), strict=True)
            }
            if meta.pixel_spacing is not None:
                rows_mm, columns_mm = meta.pixel_spacing
                in_mm = (x * columns_mm, y * rows_mm, width * columns_mm, height * rows_mm)
                row |= {name: round(value, 3) for name, value in zip(TABLE_COLUMNS[10:], in_mm, strict=True)}
            rows.append(row)
    return rows


def score_rows(predictions: Iterable[Prediction]) -> list[dict[str, Any]]:
    """One row per file: ``SCORE_COLUMNS`` (``image_id`` as in the COCO file), and the image score of every class."""
    return [
        {
            "image_id": image_id,
            "file": prediction.file,
            "patient_id": prediction.meta.patient_id,
            "laterality": prediction.meta.laterality,
            "view": prediction.meta.view,
            **{name: round(float(score), 6) for name, score in prediction.image_scores.items()},
        }
        for image_id, prediction in enumerate(predictions, start=1)
    ]


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
    folder = Path(folder)
    if not keep_ids:
        predictions = [prediction.with_hashed_ids(id_salt) for prediction in predictions]
    write_json(folder / COCO_FILE, predictions_to_coco(predictions, classes, info))
    _write_csv(folder / TABLE_FILE, TABLE_COLUMNS, table_rows(predictions, classes))
    # A model may score other things than it has boxes of, e.g. BI-RADS groups.
    scored = dict.fromkeys(name for prediction in predictions for name in prediction.image_scores) or classes
    _write_csv(folder / SCORE_FILE, (*SCORE_COLUMNS, *scored), score_rows(predictions))
    errors = [{"level": "error", "file": p.file, "problem": p.problem} for p in problems]
    warnings = [{"level": "warning", "file": p.file, "problem": text} for p in predictions for text in p.warnings]
    _write_csv(folder / ERROR_FILE, ("level", "file", "problem"), errors + warnings)


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


def _write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes_atomic(path, text.getvalue().encode("utf-8"))
