"""What became of each lesion, detection and image as tables (CSV, Parquet, .npz), or per image as JSON for a viewer."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xyxy_to_xywh
from mammo_d2.core.files import write_bytes_atomic, write_json
from mammo_d2.evaluation.files.column_files import write_columns
from mammo_d2.evaluation.metrics.detection.case_outcomes import OUTCOMES, CaseOutcomes
from mammo_d2.evaluation.metrics.detection.matching import rank_within
from mammo_d2.evaluation.metrics.tables import EvaluationData

#: Kinds of files, by the option that names them.
CASE_FORMATS = ("csv", "parquet", "npz", "json")
_SIDES = ("x", "y", "width", "height")

Columns = dict[str, np.ndarray]


def _numbers(image: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(n,) number of each row within its image, from 1, in an order that keeps the rows of an image together."""
    numbers = np.empty(len(image), np.int64)
    numbers[order] = rank_within(image[order]) + 1
    return numbers


def lesion_numbers(data: EvaluationData) -> np.ndarray:
    """(G,) number of each lesion within its image, from 1, in the order of the ground truth."""
    return _numbers(data.lesions.image, np.argsort(data.lesions.image, kind="stable"))


def detection_numbers(data: EvaluationData) -> np.ndarray:
    """(D,) number of each detection within its image, from 1, by falling score."""
    found = data.detections
    return _numbers(found.image, np.lexsort((-found.scores, found.image)))


def case_tables(
    data: EvaluationData, outcomes: Mapping[str, tuple[int | None, CaseOutcomes]], thresholds: Sequence[float]
) -> dict[str, Columns]:
    """The tables "lesions", "detections" and "images".

    Args:
        data: images, lesions and detections.
        outcomes: label and outcomes by class name.
        thresholds: found lesions and false positives of each image are counted at these scores too.

    Returns:
        columns by table; missing numbers are NaN, and 0 where they number a lesion or a detection.
    """
    parts: dict[str, list[Columns]] = {"lesions": [], "detections": [], "images": []}
    numbers = lesion_numbers(data), detection_numbers(data)
    for name, (label, cases) in outcomes.items():
        parts["lesions"].append(_lesions(data, name, cases, *numbers))
        parts["detections"].append(_detections(data, name, cases, *numbers))
        parts["images"].append(_images(data, name, label, cases, thresholds))
    return {
        table: {key: np.concatenate([part[key] for part in columns]) for key in columns[0]}
        for table, columns in parts.items()
        if columns
    }


def _ids(data: EvaluationData, image: np.ndarray) -> np.ndarray:
    return np.array(data.images.ids)[image]


def _lesions(
    data: EvaluationData, name: str, cases: CaseOutcomes, lesion: np.ndarray, detection: np.ndarray
) -> Columns:
    rows = np.flatnonzero(cases.in_class)
    lesions, holder = data.lesions.take(rows), cases.holder[rows]
    return {
        "image_id": _ids(data, lesions.image),
        "class": np.full(len(rows), name),
        "lesion": lesion[rows],
        **dict(zip(_SIDES, xyxy_to_xywh(lesions.boxes).T, strict=True)),
        "found": (holder >= 0).astype(np.int64),
        "score": np.where(holder >= 0, cases.found_score[rows], np.nan),
        "detection": np.append(detection, 0)[holder],
        "iou": cases.iou[rows],
        "ignored": lesions.ignore.astype(np.int64),
    }


def _detections(
    data: EvaluationData, name: str, cases: CaseOutcomes, lesion: np.ndarray, detection: np.ndarray
) -> Columns:
    rows = np.flatnonzero(cases.outcome != OUTCOMES.index("other"))
    found = data.detections.take(rows)
    return {
        "image_id": _ids(data, found.image),
        "class": np.full(len(rows), name),
        "detection": detection[rows],
        **dict(zip(_SIDES, xyxy_to_xywh(found.boxes).T, strict=True)),
        "score": found.scores,
        "outcome": np.array(OUTCOMES)[cases.outcome[rows]],
        "lesion": np.append(lesion, 0)[cases.hit_lesion[rows]],
    }


def _images(
    data: EvaluationData, name: str, label: int | None, cases: CaseOutcomes, thresholds: Sequence[float]
) -> Columns:
    number = len(data.images)
    mine = cases.outcome != OUTCOMES.index("other")
    best = np.full(number, -np.inf)
    np.maximum.at(best, data.detections.image[mine], data.detections.scores[mine])
    real = cases.in_class & ~data.lesions.ignore
    false = cases.outcome == OUTCOMES.index("false")

    def count(image: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        return np.bincount(image[chosen], minlength=number)

    truth = data.images.truth[:, label] if label is not None else np.full(number, np.nan)
    columns = {
        "image_id": np.array(data.images.ids),
        "class": np.full(number, name),
        "truth": truth,
        "score": np.where(np.isfinite(best), best, np.nan),
        "lesions": count(data.lesions.image, real),
        "found": count(data.lesions.image, real & (cases.holder >= 0)),
        "false": count(data.detections.image, false),
    }
    for threshold in thresholds:
        columns[f"found@{threshold:g}"] = count(data.lesions.image, real & (cases.found_score >= threshold))
        columns[f"false@{threshold:g}"] = count(data.detections.image, false & (data.detections.scores >= threshold))
    return columns


def viewer_entries(tables: Mapping[str, Columns]) -> list[dict[str, Any]]:
    """Per image and class {"image_id", "class", "truth", "lesions": [...], "detections": [...]}, for a viewer.

    Boxes are [x, y, width, height] in pixels of the image in the ground truth; missing numbers are null.
    """
    entries: dict[tuple[Any, str], dict[str, Any]] = {}
    images = tables["images"]
    for image_id, name, truth in zip(*(images[key].tolist() for key in ("image_id", "class", "truth")), strict=True):
        entries[image_id, name] = {"image_id": image_id, "class": name, "truth": truth, "lesions": [], "detections": []}
    for table in ("lesions", "detections"):
        keys = [key for key in tables[table] if key not in ("image_id", "class", *_SIDES)]
        boxes = np.column_stack([tables[table][side] for side in _SIDES]).tolist()
        owners = zip(tables[table]["image_id"].tolist(), tables[table]["class"].tolist(), strict=True)
        values = zip(*(tables[table][key].tolist() for key in keys), strict=True)
        for owner, box, row in zip(owners, boxes, values, strict=True):
            entries[owner][table].append({"bbox": box, **dict(zip(keys, row, strict=True))})
    return list(entries.values())


def write_cases(folder: str | os.PathLike, prefix: str, tables: Mapping[str, Columns], kind: str) -> list[Path]:
    """Write the tables as ``<prefix>_lesions.<kind>`` …, or as one ``<prefix>.json``.

    Args:
        folder: it exists.
        prefix: begins the files' names.
        tables: of ``case_tables``.
        kind: one of ``CASE_FORMATS``.

    Raises:
        ModuleNotFoundError: Parquet without pyarrow.
    """
    folder = Path(folder)
    if kind == "json":
        return [write_json(folder / f"{prefix}.json", viewer_entries(tables), indent=None, nan_as_null=True)]
    paths = []
    for table, columns in tables.items():
        path = folder / f"{prefix}_{table}.{kind}"
        if kind == "csv":
            write_csv_columns(path, columns)
        else:
            write_columns(path, columns)
        paths.append(path)
    return paths


def write_csv_columns(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> Path:
    """Write (n,) columns by name as CSV; NaN becomes an empty cell."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    cells = []
    for values in columns.values():
        listed = values.tolist()
        is_float = values.dtype.kind == "f"
        cells.append(["" if value != value else value for value in listed] if is_float else listed)
    writer.writerows(zip(*cells, strict=True))
    write_bytes_atomic(path, text.getvalue().encode("utf-8"))
    return Path(path)
