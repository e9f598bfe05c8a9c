"""A human reader's probabilities: read from a table, and mixed with a model's.

Shape shorthand: N images, C classes. Scores are probabilities in [0, 1].
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.table_files import read_any_table
from mammo_d2.evaluation.files.field_checks import parse_number
from mammo_d2.evaluation.files.image_scores import ImageScores, probability, some_of
from mammo_d2.evaluation.files.results import ResultsError

#: Columns that name the images of a row, with their keys in the image records.
READER_KEYS = {"image_id": "id", "patient_id": "patient_id", "exam_id": "exam_id", "laterality": "laterality"}


def read_reader(path: str | os.PathLike, images: Sequence[Mapping[str, Any]], scores: ImageScores) -> np.ndarray:
    """Read a reader's probabilities: a table with columns that name an image, breast, exam or patient, one per class.

    ``READER_KEYS`` are the naming columns: image_id; exam_id and laterality for a breast; exam_id; patient_id (also
    beside exam_id where patients share exam ids). All images that a row names get its scores.

    Args:
        path: the file.
        images: image records of the ground truth (COCO).
        scores: the model's, for the same images; gives order and classes.

    Returns:
        (N, C) float64, NaN for classes without a column.

    Raises:
        ResultsError: missing columns; a row that names no image, images of several patients, or what another row named;
            a score that is no number in [0, 1]; an image without a row. The message names the line.
    """
    path = Path(path)
    rows: dict[tuple[str, ...], tuple[int, np.ndarray]] = {}
    table = read_any_table(path, error=ResultsError)
    header, lines = table.header, table.by_column(ResultsError)
    keys = [name for name in READER_KEYS if name in header]
    columns = [name for name in scores.classes if name in header]
    if not set(keys) - {"laterality"} or not columns:
        raise ResultsError(
            f"{path}: the first line must name image_id, exam_id (and laterality) or patient_id, and at least one "
            f"of {', '.join(scores.classes)}; it names {', '.join(header) or 'nothing'}"
        )
    for number, line in lines:
        where = f"{path}: line {number}"
        key = tuple(line[name].strip() for name in keys)
        if key in rows:
            raise ResultsError(f"{where}: {_named(keys, key)} is there twice (line {rows[key][0]}); remove one")
        row = np.full(len(scores.classes), np.nan)
        for name in columns:
            row[scores.classes.index(name)] = _cell(table.number_text(line[name]), f"{where}: {name}")
        rows[key] = (number, row)
    records = {record["id"]: record for record in images}
    values = np.full(scores.values.shape, np.nan)
    patients: dict[tuple[str, ...], Any] = {}
    unread = []
    for place, image_id in enumerate(scores.ids):
        record = records[image_id]
        key = tuple("" if (value := record.get(READER_KEYS[name])) is None else str(value) for name in keys)
        if key not in rows:
            unread.append(image_id)
            continue
        if patients.setdefault(key, record.get("patient_id")) != record.get("patient_id"):
            raise ResultsError(
                f"{path}: line {rows[key][0]}: {_named(keys, key)} belongs to several patients of the ground truth; "
                "add a column patient_id"
            )
        values[place] = rows[key][1]
    for key, (number, _) in rows.items():
        if key not in patients:
            raise ResultsError(f"{path}: line {number}: {_named(keys, key)} names no image that is scored; remove it")
    if unread:
        raise ResultsError(
            f"{path}: no line for {some_of(unread)} ({', '.join(keys)}); the reader must score every image"
        )
    return values


def mix_with_reader(model: ImageScores, reader: np.ndarray, weight: float) -> ImageScores:
    """``weight · reader + (1 − weight) · model``; classes that the reader did not score stay the model's.

    As a reader's score of a breast is that of all its images, this is the same as mixing the scores of breasts.

    Args:
        model: the model's scores.
        reader: (N, C), NaN where there is none.
        weight: λ in [0, 1].

    Raises:
        ResultsError: a weight out of range.

    Source:
        Shen et al., MLMI 2019, section 3.2 (human-machine hybrid, λ = 0.5).
    """
    share = probability(weight, "--reader-weight")
    mixed = np.where(np.isnan(reader), model.values, share * reader + (1 - share) * model.values)
    return ImageScores(f"{model.source} + reader", model.ids, model.classes, mixed)


def _cell(text: str, where: str) -> float:
    value = parse_number(text)
    if value is None or not 0 <= value <= 1:
        raise ResultsError(f"{where} {text!r} must be a probability between 0 and 1")
    return value


def _named(keys: Sequence[str], values: Sequence[str]) -> str:
    return ", ".join(f"{key} {value!r}" for key, value in zip(keys, values, strict=True))
