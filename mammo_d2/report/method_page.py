"""The page of a comparison of methods: its tables, and the same images with a column per method."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.array_files import load_arrays
from mammo_d2.core.boxes import boxes_of_annotations
from mammo_d2.data.reading.reader import read_image
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class
from mammo_d2.evaluation.metrics.row_comparison import ComparedRows
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.pictures.drawing import encode_png, overlay, side_by_side, to_display, with_caption
from mammo_d2.pictures.evidence import heat
from mammo_d2.report.html import Block, Estimate, Figure, Heading, Note, Section, Table, Text, write_report
from mammo_d2.report.shown_images import describe_image, spread

# Longer side of an image in a column, in pixels, and boxes drawn on it.
COLUMN_SIDE, COLUMN_BOXES = 380, 3


@dataclass(frozen=True)
class MethodColumn:
    """What a method predicted, for its column of pictures.

    Attributes:
        name: of the method.
        classes: its class names.
        label: number of the class that is shown.
        boxes: its boxes; None of a method without.
        image_scores: (N,) of the class; None likewise.
        maps: per image the file with its response maps; None likewise.
        lesions: malignancy of given boxes by image id: [(bbox XYWH, malignancy)].
    """

    name: str
    classes: Sequence[str]
    label: int
    boxes: DetectionTable | None = None
    image_scores: np.ndarray | None = None
    maps: Sequence[Path | None] = ()
    lesions: Mapping[Any, Sequence[tuple[Sequence[float], float]]] = field(default_factory=dict)


def write_method_page(
    path: str | os.PathLike,
    title: str,
    compared: ComparedRows,
    headings: Mapping[str, str],
    costs: Table,
    notes: Mapping[str, str],
    records: Sequence[Mapping[str, Any]],
    columns: Sequence[MethodColumn],
    truth: np.ndarray,
    limit: int = 6,
) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        title: of the page.
        compared: the numbers.
        headings: columns of the tables, by metric.
        costs: of the rows.
        notes: how the comparison was made, in words.
        records: dataset records of the N test images, with the boxes of the class that is shown.
        columns: the methods.
        truth: (N,) 1 if an image shows the class, 0 if not, NaN if unknown.
        limit: pictures of each kind: images with the class, and without.

    Returns:
        The HTML file.
    """
    shown = {metric: words for metric, words in headings.items() if any(metric in m for m in compared.metrics.values())}
    values = [[name, *(_estimate(found.get(metric)) for metric in shown)] for name, found in compared.metrics.items()]
    differences = [
        [name, *(_difference(found.get(metric)) for metric in shown)] for name, found in compared.differences.items()
    ]
    tables: list[Block] = [
        Table(["row", *shown.values()], values, f"Values with 95 % intervals over {compared.patients} test patients")
    ]
    if differences:
        tables.append(Table(["row", *shown.values()], differences, f"Differences to {compared.reference}, paired"))
    tables += [costs, *(Text(text, small=True) for text in notes.values())]
    pictures = method_pictures(records, columns, truth, limit)
    words = (
        f"The same test images, spread evenly over the data set, in a column per method. Lesions in green; the best "
        f"{COLUMN_BOXES} boxes of each method in orange; response maps in colour; the score of the image below."
    )
    sections = [Section("Results", tables), Section("Pictures", [Text(words), *pictures])]
    return write_report(path, title, sections)


def method_pictures(
    records: Sequence[Mapping[str, Any]], columns: Sequence[MethodColumn], truth: np.ndarray, limit: int
) -> list[Block]:
    """One figure per image, a panel per method; see ``write_method_page``."""
    boxed = np.array([bool(record["annotations"]) for record in records], bool)
    groups = {"Images with a lesion": boxed, "Images without": ~boxed & (truth == 0)}
    blocks: list[Block] = []
    for heading, chosen in groups.items():
        rows = spread(np.flatnonzero(chosen), limit)
        if len(rows):
            blocks.append(Heading(heading))
        for row in rows.tolist():
            record = records[row]
            try:
                pixels = read_image(record["file_name"])[0]
            except (OSError, ValueError) as error:
                blocks.append(Note(f"image {record['image_id']} left out: {error}"))
                continue
            panels = [method_panel(pixels, record, row, column) for column in columns]
            blocks.append(Figure(encode_png(side_by_side(panels)), describe_image(record)))
    return blocks


def method_panel(pixels: np.ndarray, record: Mapping[str, Any], row: int, column: MethodColumn) -> np.ndarray:
    """The picture of one image in the column of one method.

    Args:
        pixels: (H, W) of any real dtype.
        record: of the image.
        row: number of the image.
        column: the method.

    Returns:
        (h, w, 3) uint8 RGB, with a caption.
    """
    display = to_display(pixels, COLUMN_SIDE)
    factor = np.tile([display.shape[1] / pixels.shape[1], display.shape[0] / pixels.shape[0]], 2)
    truth = boxes_of_annotations(record["annotations"]) * factor
    picture = display
    response = _response(column, row, record["image_id"])
    if response is not None:
        picture = heat(display, cv2.resize(response, display.shape[::-1], interpolation=cv2.INTER_NEAREST))
    boxes, scores = np.zeros((0, 4)), np.zeros(0)
    if column.boxes is not None:
        mine = column.boxes.take((column.boxes.image == row) & (column.boxes.label == column.label))
        best = best_of_each_class(mine.scores, mine.label, COLUMN_BOXES)
        boxes, scores = mine.boxes[best] * factor, mine.scores[best]
    given = column.lesions.get(record["image_id"], ())
    if given:
        boxes = np.array([[x, y, x + w, y + h] for (x, y, w, h), _ in given]) * factor
        scores = np.array([score for _, score in given])
    drawn = overlay(picture, truth, boxes, scores.tolist(), windowed=True)
    score = None if column.image_scores is None else float(column.image_scores[row])
    return with_caption(drawn, column.name if score is None else f"{column.name}: {score:.2f}")


def _response(column: MethodColumn, row: int, image_id: Any) -> np.ndarray | None:
    """(h, w) of the class; None without a map of the image."""
    path = column.maps[row] if column.maps else None
    if path is None:
        return None
    maps = load_arrays(path, "compare again", [str(image_id)]).get(str(image_id))
    return None if maps is None or len(maps) <= column.label else maps[column.label].astype(np.float32)


def _estimate(metric: Any) -> Estimate | None:
    return None if metric is None else Estimate(metric.value, metric.interval.low, metric.interval.high)


def _difference(difference: Any) -> Estimate | None:
    if difference is None:
        return None
    return Estimate(difference.comparison.difference, difference.comparison.low, difference.comparison.high)
