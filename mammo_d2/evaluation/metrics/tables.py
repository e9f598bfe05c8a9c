"""What every metric reads: images, ground truth and detections of one data set as flat numpy tables.

Naming: ``N`` images, ``G`` ground-truth boxes ("lesions"), ``D`` detections, ``C`` classes. Boxes are XYXY float64 in
pixels of the prepared image. ``image`` columns hold row numbers of the image table, ``label`` columns hold contiguous
class numbers. No table keeps a Python object per box, so 10 million detections are a few hundred megabytes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mammo_d2.core.boxes import boxes_of_annotations
from mammo_d2.core.image_truth import image_truth


@dataclass(frozen=True)
class ImageTable:
    """One row per image, in the order of the records.

    Attributes:
        ids: the image ids (int or str), unique.
        classes: the ``C`` class names.
        patient, exam, breast: (N,) int64 group numbers, 0-based and dense. A breast is (patient, exam, laterality).
        truth: (N, C) float64; 1 if the image shows the class, 0 if not, NaN if unknown (``image_truth``).
        size: (N, 2) float64 height and width in pixels, NaN where unknown.
        spacing: (N, 2) float64 millimetres per pixel (row, column), NaN where unknown.
        patient_known: (N,) bool; False where the record has no ``patient_id``; such an image is a patient of its own.
    """

    ids: tuple[Hashable, ...]
    classes: tuple[str, ...]
    patient: np.ndarray
    exam: np.ndarray
    breast: np.ndarray
    truth: np.ndarray
    size: np.ndarray
    spacing: np.ndarray
    patient_known: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def groups(self, level: str) -> np.ndarray:
        """(N,) group number of each image at "image", "breast", "exam" or "patient" level."""
        if level == "image":
            return np.arange(len(self))
        if level not in ("breast", "exam", "patient"):
            raise ValueError(f"level {level!r} is none of image, breast, exam, patient")
        return getattr(self, level)


@dataclass(frozen=True)
class LesionTable:
    """Ground-truth boxes: ``boxes`` (G, 4), ``image`` (G,), ``label`` (G,), ``area`` (G,), and two kinds of exceptions.

    ``crowd`` (G,) bool: COCO's iscrowd, a region where detections are neither right nor wrong.
    ``ignore`` (G,) bool: a finding that may be found or missed without effect (LUNA16's excluded findings).
    """

    boxes: np.ndarray
    image: np.ndarray
    label: np.ndarray
    crowd: np.ndarray
    ignore: np.ndarray
    area: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def take(self, keep: np.ndarray) -> LesionTable:
        """The rows chosen by a boolean mask or an index array."""
        return LesionTable(
            *(getattr(self, name)[keep] for name in ("boxes", "image", "label", "crowd", "ignore", "area"))
        )


@dataclass(frozen=True)
class DetectionTable:
    """Detections: ``boxes`` (D, 4) XYXY, ``scores`` (D,) float64 finite, ``image`` (D,), ``label`` (D,)."""

    boxes: np.ndarray
    scores: np.ndarray
    image: np.ndarray
    label: np.ndarray

    def __len__(self) -> int:
        return len(self.image)

    def take(self, keep: np.ndarray) -> DetectionTable:
        """The rows chosen by a boolean mask or an index array."""
        return DetectionTable(self.boxes[keep], self.scores[keep], self.image[keep], self.label[keep])


@dataclass(frozen=True)
class EvaluationData:
    """Everything a detection metric needs, and ``notes``: what was dropped before, with its count."""

    images: ImageTable
    lesions: LesionTable
    detections: DetectionTable
    notes: Mapping[str, int] = field(default_factory=dict)


def empty_detections() -> DetectionTable:
    """A table with no row."""
    return DetectionTable(np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))


def dense_groups(keys: Iterable[Hashable]) -> np.ndarray:
    """(N,) int64: equal keys get equal numbers, numbered by first appearance."""
    seen: dict[Hashable, int] = {}
    return np.fromiter((seen.setdefault(key, len(seen)) for key in keys), dtype=np.int64)


def images_from_records(records: Sequence[Mapping], classes: Sequence[str]) -> ImageTable:
    """Image table of dataset records (detectron2 dicts with this package's extra keys).

    Raises:
        ValueError: two records have the same ``image_id``.
    """
    ids = tuple(record["image_id"] for record in records)
    if len(set(ids)) != len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise ValueError(f"image_id {twice!r} appears in two records of the data set; image ids must be unique")
    known = np.array([record.get("patient_id") is not None for record in records], dtype=bool)
    patients = [
        ("patient", record["patient_id"]) if has else ("image", record["image_id"])
        for record, has in zip(records, known, strict=True)
    ]
    exams = [(patient, record.get("exam_id")) for patient, record in zip(patients, records, strict=True)]
    # Images without laterality may show different breasts: each is a breast of its own.
    breasts = [
        (exam, record["laterality"]) if record.get("laterality") else (exam, "image", record["image_id"])
        for exam, record in zip(exams, records, strict=True)
    ]
    missing = (np.nan, np.nan)
    return ImageTable(
        ids=ids,
        classes=tuple(classes),
        patient=dense_groups(patients),
        exam=dense_groups(exams),
        breast=dense_groups(breasts),
        # float turns None into NaN.
        truth=np.array([image_truth(record, classes) for record in records], float).reshape(len(ids), len(classes)),
        size=np.array([(r.get("height") or np.nan, r.get("width") or np.nan) for r in records], float).reshape(-1, 2),
        spacing=np.array([r.get("pixel_spacing") or missing for r in records], float).reshape(-1, 2),
        patient_known=known,
    )


def lesions_from_records(records: Sequence[Mapping]) -> LesionTable:
    """Lesion table of dataset records; ``category_id`` is already the contiguous class number.

    Raises:
        ValueError: a box whose ``bbox_mode`` is neither XYXY_ABS nor XYWH_ABS.
    """
    annotations, image, label, crowd, ignore, area = [], [], [], [], [], []
    for row, record in enumerate(records):
        for annotation in record.get("annotations", ()):
            annotations.append(annotation)
            image.append(row)
            label.append(annotation["category_id"])
            crowd.append(bool(annotation.get("iscrowd", 0)))
            ignore.append(bool(annotation.get("ignore", 0)))
            area.append(annotation.get("area") or np.nan)
    table = boxes_of_annotations(annotations)
    areas = np.array(area, float)
    by_box = (table[:, 2] - table[:, 0]) * (table[:, 3] - table[:, 1])
    return LesionTable(
        boxes=table,
        image=np.array(image, np.int64),
        label=np.array(label, np.int64),
        crowd=np.array(crowd, bool),
        ignore=np.array(ignore, bool),
        area=np.where(np.isnan(areas), by_box, areas),
    )


def repeated_rows(*columns: np.ndarray) -> int:
    """How many rows of a table equal another row before them."""
    # Equal rows have equal codes; only rows whose code is there again are compared.
    code = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        for values in np.atleast_2d(column.T):
            # + 0.0 turns -0.0 into 0.0, which equals it
            code = (code ^ (values.astype(np.float64) + 0.0).view(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
            code ^= code >> np.uint64(29)
    ordered = np.sort(code)
    twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(twice):
        return 0
    near = np.isin(code, twice)
    rows = np.column_stack([column[near].astype(np.float64) for column in columns])
    return len(rows) - len(np.unique(rows, axis=0))
