"""What the viewer shows of files: results of any program on a ground truth, and predictions on files without truth."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.core.files import read_json
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.field_checks import category_names, check_box, is_number
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.evaluation.study.study import System
from mammo_d2.report.viewer.viewed_data import SystemOutput, ViewedDataset


def viewed_results(
    truth: GroundTruth, systems: Sequence[System], rule: FrocRule, images: str | os.PathLike | None = None
) -> ViewedDataset:
    """Results on a ground truth, as ``evaluate`` reads them.

    Args:
        truth: the ground truth.
        systems: detections and image scores on its images.
        rule: how boxes count.
        images: folder that the ground truth's file names are relative to; by default ``images`` beside the folder of
            the ground-truth file.

    Raises:
        FileNotFoundError: no such folder.
        ResultsError: an image of the ground truth without its size.
    """
    folder = Path(images) if images is not None else Path(truth.path).resolve().parent.parent / "images"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; name the folder of the images, --images FOLDER")
    by_id = {image["id"]: image for image in read_json(truth.path, error=ResultsError)["images"]}
    records = []
    for image_id in truth.images.ids:
        image = by_id[image_id]
        for key in ("file_name", "height", "width"):
            if image.get(key) is None:
                raise ResultsError(f"{truth.path}: image {image_id!r} has no {key}, which the viewer needs; add it")
        records.append({**image, "image_id": image_id, "file_name": str(folder / image["file_name"])})
    outputs = [SystemOutput(system.name, system.detections, system.image_scores) for system in systems]
    return ViewedDataset(
        Path(truth.path).stem, records, truth.images.classes, outputs, rule, truth=(truth.images, truth.lesions)
    )


def viewed_predictions(path: str | os.PathLike, images: str | os.PathLike | None = None) -> ViewedDataset:
    """``predictions.json`` of mammo-d2 predict: boxes and image scores on files, without truth.

    Args:
        path: the file, or its folder.
        images: folder that relative file names are looked for in; by default the current one.

    Raises:
        FileNotFoundError: no such file.
        ResultsError: not such a file.
    """
    path = Path(path)
    path = path / "predictions.json" if path.is_dir() else path
    content = read_json(path, error=ResultsError)
    if not isinstance(content, Mapping) or not all(
        isinstance(content.get(key), list) for key in ("images", "annotations", "categories")
    ):
        raise ResultsError(f"{path}: not predictions.json of mammo-d2 predict; name its file or folder")
    names = category_names(content["categories"], str(path))
    classes = list(names.values())
    records: list[dict[str, Any]] = []
    rows: dict[Any, int] = {}
    scores = np.full((len(content["images"]), len(classes)), np.nan)
    for row, image in enumerate(content["images"]):
        where = f"{path}: images[{row}]"
        if not isinstance(image, Mapping) or not isinstance(image.get("file_name"), str):
            raise ResultsError(f"{where}: must be an object with a file_name; predict again")
        if not all(isinstance(image.get(key), int) and image[key] > 0 for key in ("height", "width")):
            raise ResultsError(f"{where}: height and width must be whole numbers above 0; predict again")
        rows[image.get("id")] = row
        file = os.path.join(images or "", image["file_name"])
        records.append({**image, "image_id": image.get("id"), "file_name": file, "annotations": []})
        for name, value in (image.get("image_scores") or {}).items():
            if name in classes and is_number(value):
                scores[row, classes.index(name)] = value
    if len(rows) < len(records):
        raise ResultsError(f"{path}: an id of its images is there twice; image ids must be unique")
    labels = {number: label for label, number in enumerate(names)}
    boxes: list[list[float]] = []
    columns: list[tuple[float, int, int]] = []
    for number, entry in enumerate(content["annotations"]):
        where = f"{path}: annotations[{number}]"
        if (
            not isinstance(entry, Mapping)
            or entry.get("image_id") not in rows
            or entry.get("category_id") not in labels
        ):
            raise ResultsError(f"{where}: image_id or category_id is not in the file; predict again")
        if not is_number(entry.get("score")):
            raise ResultsError(f"{where}: score = {entry.get('score')!r} must be a number; predict again")
        check_box(entry.get("bbox"), where)
        boxes.append(entry["bbox"])
        columns.append((float(entry["score"]), rows[entry["image_id"]], labels[entry["category_id"]]))
    table = DetectionTable(
        xywh_to_xyxy(boxes).reshape(-1, 4),
        np.array([score for score, _, _ in columns], np.float64),
        np.array([row for _, row, _ in columns], np.int64),
        np.array([label for _, _, label in columns], np.int64),
    )
    has_scores = not np.isnan(scores).all()
    system = SystemOutput("predictions", table, scores if has_scores else None)
    lowest = float(table.scores.min()) if len(table) else 0.0
    return ViewedDataset(path.parent.resolve().name, records, classes, [system], None, fallback=lowest)
