"""The page of a comparison of methods: its tables, and the same images with every method in the viewer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.row_comparison import ComparedRows
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.report.html import Block, Estimate, Section, Table, Text, write_report
from mammo_d2.report.viewer.viewed_data import MAX_SYSTEMS, SystemOutput, ViewedDataset
from mammo_d2.report.viewer.viewer_block import MAX_IMAGES, Viewer


@dataclass(frozen=True)
class MethodColumn:
    """What a method predicted on the test images.

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
    class_name: str = "",
    rule: FrocRule | None = None,
    limit: int = MAX_IMAGES,
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
        class_name: of the class that is shown.
        rule: how the reference's boxes count; in the viewer those of all methods.
        limit: most images on the page.

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
    sections, viewer = [Section("Results", tables)], None
    if records and columns:
        shown_columns = columns[:MAX_SYSTEMS]
        viewer = Viewer(
            [viewed_methods(records, shown_columns, class_name, rule or FrocRule())], limit, None, "compare"
        )
        words = "The same test images with every method's boxes, maps and scores (first seed)."
        if len(columns) > MAX_SYSTEMS:
            words += f" The first {MAX_SYSTEMS} of {len(columns)} rows are shown."
        sections.append(Section("Images", [Text(words), viewer.block]))
    return write_report(path, title, sections, program=None if viewer is None else viewer.program)


def viewed_methods(
    records: Sequence[Mapping[str, Any]], columns: Sequence[MethodColumn], class_name: str, rule: FrocRule
) -> ViewedDataset:
    """The test images with what the methods gave, of one class; see ``write_method_page``."""
    own = [{**r, "annotations": [{**a, "category_id": 0} for a in r["annotations"]]} for r in records]
    return ViewedDataset("test images", own, [class_name], [_output(column) for column in columns], rule)


def _output(column: MethodColumn) -> SystemOutput:
    """A method's column with the one class that is shown."""
    boxes = column.boxes
    if boxes is not None:
        boxes = boxes.take(boxes.label == column.label)
        boxes = replace(boxes, label=np.zeros(len(boxes), np.int64))
    scores = None if column.image_scores is None else np.asarray(column.image_scores, float)[:, np.newaxis]
    return SystemOutput(column.name, boxes, scores, column.maps, [column.label], column.lesions)


def _estimate(metric: Any) -> Estimate | None:
    return None if metric is None else Estimate(metric.value, metric.interval.low, metric.interval.high)


def _difference(difference: Any) -> Estimate | None:
    if difference is None:
        return None
    return Estimate(difference.comparison.difference, difference.comparison.low, difference.comparison.high)
