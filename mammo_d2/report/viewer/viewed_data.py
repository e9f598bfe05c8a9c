"""What the viewer shows: images with their truth and what systems gave on them, and how boxes count.

Boxes count as in a FROC curve of the same rule: the numbers at a threshold are those of the curve.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xyxy_to_xywh
from mammo_d2.evaluation.metrics.detection.case_outcomes import OUTCOMES, CaseOutcomes, case_outcomes
from mammo_d2.evaluation.metrics.detection.froc import FrocEvents, FrocRule
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at
from mammo_d2.evaluation.metrics.tables import (
    DetectionTable,
    EvaluationData,
    ImageTable,
    LesionTable,
    empty_detections,
    images_from_records,
    lesions_from_records,
)
from mammo_d2.pictures.drawing import class_colors

#: The viewer's slider starts at about this many false positives per image.
START_RATE = 1.0
#: Most systems side by side; two to five are easy to look at.
MAX_SYSTEMS = 12

# What a box is to the curve, as in viewer.js.
_HIT, _NEITHER, _FALSE = 0, 1, 2


@dataclass(frozen=True)
class SystemOutput:
    """What one system (a run, a model, a results file) gave on the images of a data set.

    Attributes:
        name: of the system.
        detections: its boxes; None of a system without.
        image_scores: (N, C), NaN where there is none; None likewise.
        maps: per image the file of response maps (C, h, w) in [0, 1] by image id; empty without.
        channels: channel of the maps for each class; empty: those of the classes in order.
        given: scores of boxes that it was given, by image id: [(bbox XYWH, score)].
    """

    name: str
    detections: DetectionTable | None = None
    image_scores: np.ndarray | None = None
    maps: Sequence[Path | None] = ()
    channels: Sequence[int] = ()
    given: Mapping[Hashable, Sequence[tuple[Sequence[float], float]]] = field(default_factory=dict)


@dataclass(frozen=True)
class ViewedDataset:
    """Images of one data set, with what the systems gave on them.

    Attributes:
        name: of the data set.
        records: dataset records, ``category_id`` of their annotations being rows of ``classes``.
        classes: class names, the same for all data sets of a viewer.
        systems: at most ``MAX_SYSTEMS``; those of one name in several data sets are one system.
        rule: how boxes count; None of systems without known truth, as of predictions on files.
        fallback: threshold at the start where no box can be accepted.
        truth: tables of the images and lesions, where they are not those of the records.
        pictures: JPEG files by image id; images without are read from their files.
    """

    name: str
    records: Sequence[Mapping[str, Any]]
    classes: Sequence[str]
    systems: Sequence[SystemOutput] = ()
    rule: FrocRule | None = None
    fallback: float = 0.5
    truth: tuple[ImageTable, LesionTable] | None = None
    pictures: Mapping[Hashable, bytes] = field(default_factory=dict)


def viewer_data(datasets: Sequence[ViewedDataset], limit: int, layout: str = "single") -> dict[str, Any]:
    """The viewer's JSON.

    Args:
        datasets: in order; their images follow one another.
        limit: most images whose pixels are in the file; the others count only.
        layout: at the start: "single", "exam", "compare" or "grid".

    Returns:
        JSON of ``viewer.js``. ``images[n]["px"]`` is n, or None for an image without pixels.

    Raises:
        ValueError: data sets with different classes, or too many systems.
    """
    classes = list(datasets[0].classes)
    names = list(dict.fromkeys(system.name for dataset in datasets for system in dataset.systems))
    if wrong := [dataset.name for dataset in datasets if list(dataset.classes) != classes]:
        raise ValueError(f"viewer: the classes of {wrong[0]} are not {classes}, those of {datasets[0].name}")
    if len(names) > MAX_SYSTEMS:
        raise ValueError(f"viewer: {len(names)} systems ({', '.join(names)}); at most {MAX_SYSTEMS} fit side by side")
    systems: list[dict[str, Any]] = [
        {"name": name, "rule": "", "counted": [], "thresholds": None, "hasBoxes": False, "hasScores": False,
         "hasGiven": False}
        for name in names
    ]  # fmt: skip
    images: list[dict[str, Any]] = []
    maps = False
    for number, dataset in enumerate(datasets):
        tables = _Tables.of(dataset)
        entries = [_image_entry(record, number, row, tables) for row, record in enumerate(dataset.records)]
        by_name = {system.name: system for system in dataset.systems}
        for name, words in zip(names, systems, strict=True):
            results = _add_system(words, by_name.get(name), dataset, tables)
            for entry, result in zip(entries, results, strict=True):
                entry["results"].append(result)
                if result and "maps" in result:
                    first = len(images) + result.pop("maps")
                    result["maps"] = [f"{first}-{len(entry['results']) - 1}-{label}" for label in range(len(classes))]
                    maps = True
        exams = max((entry["exam"] for entry in images), default=-1) + 1
        for entry in entries:
            entry["exam"] += exams
            if entry["unit"] is not None:
                entry["unit"] = f"{number}/{entry['unit']}"
        images += entries
    shown = embedded_rows([entry["exam"] for entry in images], limit)
    for n, entry in enumerate(images):
        entry["px"] = n if n in shown else None
    missing = len(images) - len(shown)
    return {
        "classes": classes,
        "colors": [f"rgb{color}".replace(" ", "") for color in class_colors(classes)],
        "datasets": [dataset.name for dataset in datasets],
        "systems": systems,
        "maps": classes if maps else [],
        "mapClass": classes.index("malignant") if "malignant" in classes else 0,
        "layout": layout,
        "judged": any(dataset.rule is not None for dataset in datasets) and bool(names),
        "note": f"This file has {len(shown)} of the {len(images)} images; the counts are of all." if missing else "",
        "images": images,
    }


def embedded_rows(exams: Sequence[int], limit: int) -> set[int]:
    """Rows of at most ``limit`` images: whole exams, spread evenly over the data; single images of one large exam."""
    if len(exams) <= limit:
        return set(range(len(exams)))
    by_exam: dict[int, list[int]] = {}
    for row, exam in enumerate(exams):
        by_exam.setdefault(exam, []).append(row)
    groups = list(by_exam.values())
    # An order in which every beginning is spread: the exams by the digits of their place, the lowest one first.
    width = max(len(groups) - 1, 1).bit_length()
    order = sorted(range(len(groups)), key=lambda place: f"{place:0{width}b}"[::-1])
    rows: set[int] = set()
    for place in order:
        if len(rows) + len(groups[place]) <= limit:
            rows.update(groups[place])
    return rows or set(groups[0][:limit])


@dataclass(frozen=True)
class _Tables:
    """Tables of a data set, the rows of the lesions by image, and of images the truth that is shown."""

    images: ImageTable
    lesions: LesionTable
    lesions_of: list[np.ndarray]
    has_truth: bool
    unit: np.ndarray | None

    @classmethod
    def of(cls, dataset: ViewedDataset) -> _Tables:
        if dataset.truth is not None:
            images, lesions = dataset.truth
        else:
            images = images_from_records(dataset.records, dataset.classes)
            lesions = lesions_from_records(dataset.records)
        unit = dataset.rule.recall_unit if dataset.rule is not None else "lesion"
        return cls(
            images,
            lesions,
            rows_of_images(lesions.image, len(images)),
            dataset.rule is not None or not dataset.systems,
            None if unit == "lesion" else images.groups(unit),
        )


def rows_of_images(image: np.ndarray, count: int) -> list[np.ndarray]:
    """Row numbers of a table by image, in the table's order."""
    order = np.argsort(image, kind="stable")
    return np.split(order, np.cumsum(np.bincount(image, minlength=count))[:-1]) if count else []


def _image_entry(record: Mapping[str, Any], dataset: int, row: int, tables: _Tables) -> dict[str, Any]:
    """One image with its truth, without results."""
    height, width = int(record["height"]), int(record["width"])
    breast = [float(value) for value in record.get("breast_box") or (0, 0, width, height)]
    lesions = tables.lesions.take(tables.lesions_of[row])
    flags = np.where(lesions.crowd, "crowd", np.where(lesions.ignore, "ignored", ""))
    boxes = zip(xyxy_to_xywh(lesions.boxes).tolist(), lesions.label.tolist(), flags.tolist(), strict=True)
    truth = [None if math.isnan(value) else int(value) for value in tables.images.truth[row].tolist()]
    spacing = record.get("pixel_spacing")
    return {
        "id": record["image_id"],
        "file": Path(record["file_name"]).name,
        "dataset": dataset,
        "patient": None if record.get("patient_id") is None else str(record["patient_id"]),
        "side": str(record.get("laterality") or ""),
        "view": str(record.get("view") or ""),
        "density": str(record.get("density") or ""),
        "w": width,
        "h": height,
        "chest": chest_side(record, breast, width),
        "breast": breast,
        "mm": [float(value) for value in spacing] if spacing else None,
        "exam": int(tables.images.exam[row]),
        "unit": None if tables.unit is None else int(tables.unit[row]),
        "truth": truth if tables.has_truth else [],
        "lesions": [[*_rounded(box), label, flag] for box, label, flag in boxes],
        "results": [],
    }


def chest_side(record: Mapping[str, Any], breast: Sequence[float], width: int) -> str:
    """ "left" or "right", where the chest wall is: the side of the image that the breast is nearer to, else that of
    the laterality (left breasts have it on the left) if the image was not flipped."""
    left, right = breast[0], width - breast[0] - breast[2]
    if left != right:
        return "left" if left < right else "right"
    is_flipped = bool((record.get("transform") or {}).get("flip"))
    return "right" if (record.get("laterality") == "R") != is_flipped else "left"


def _add_system(
    words: dict[str, Any], system: SystemOutput | None, dataset: ViewedDataset, tables: _Tables
) -> list[dict[str, Any] | None]:
    """Results of a system by image, None where it gave nothing; what is said of the system goes to ``words``."""
    count, classes = len(dataset.records), len(dataset.classes)
    selections: list[int | None] = [*range(classes), None]
    if system is None:
        words["counted"].append([0] * len(selections))
        return [None] * count
    detections = system.detections if system.detections is not None else empty_detections()
    # By falling score, so that pictures draw the best ones last whatever the order of the file.
    detections = detections.take(np.argsort(-detections.scores, kind="stable"))
    cases: list[CaseOutcomes] = []
    thresholds = [dataset.fallback] * len(selections)
    if dataset.rule is not None and system.detections is not None:
        data = EvaluationData(tables.images, tables.lesions, detections)
        cases = [case_outcomes(data, dataset.rule, label) for label in selections]
        thresholds = [start_threshold(case.events, dataset.rule, dataset.fallback) for case in cases]
        words["rule"] = f"As the FROC curve counts: {dataset.rule}."
    words["thresholds"] = words["thresholds"] or thresholds
    words["counted"].append([int(case.events.counted.sum()) for case in cases] or [0] * len(selections))
    words["hasBoxes"] |= system.detections is not None
    words["hasScores"] |= system.image_scores is not None
    words["hasGiven"] |= bool(system.given)
    codes, found = _codes(cases, detections, tables.lesions)
    results: list[dict[str, Any] | None] = []
    for row, (rows, lesions) in enumerate(zip(rows_of_images(detections.image, count), tables.lesions_of, strict=True)):
        result: dict[str, Any] = {
            "boxes": [_rounded(box) for box in xyxy_to_xywh(detections.boxes[rows]).tolist()],
            "scores": detections.scores[rows].tolist(),
            "labels": detections.label[rows].tolist(),
            "roles": codes[0][rows].tolist(),
            "pooled": codes[1][rows].tolist(),
            "found": [_finite(value) for value in found[0][lesions].tolist()],
            "foundPooled": [_finite(value) for value in found[1][lesions].tolist()],
        }
        if system.image_scores is not None:
            result["image"] = [_finite(value) for value in system.image_scores[row].tolist()]
        if system.maps and system.maps[row] is not None:
            result["maps"] = row
        if given := system.given.get(dataset.records[row]["image_id"]):
            result["given"] = [[*_rounded(box), float(score)] for box, score in given]
        results.append(result)
    return results


def _codes(
    cases: Sequence[CaseOutcomes], detections: DetectionTable, lesions: LesionTable
) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Codes of the boxes, and scores at which the lesions are found: each in its own class, and all together."""
    code = np.full((2, len(detections)), _NEITHER, np.int64)
    found = np.full((2, len(lesions)), -np.inf)
    for number, case in enumerate(cases):
        pooled = number == len(cases) - 1
        mine = np.ones(len(detections), bool) if pooled else detections.label == number
        theirs = np.ones(len(lesions), bool) if pooled else lesions.label == number
        code[int(pooled), mine & (case.outcome == OUTCOMES.index("hit"))] = _HIT
        code[int(pooled), mine & (case.outcome == OUTCOMES.index("false"))] = _FALSE
        found_at = np.where(case.in_class & ~lesions.ignore, case.found_score, np.nan)
        found[int(pooled), theirs] = found_at[theirs]
    return (code[0], code[1]), (found[0], found[1])


def start_threshold(events: FrocEvents, rule: FrocRule, fallback: float) -> float:
    """The threshold at the rule's rate nearest to ``START_RATE`` at which any box is accepted, else the fallback."""
    points = sensitivity_at(froc_curve(events), rule.rates, "step", "hold")
    usable = [point for point in points if math.isfinite(point.threshold)]
    return min(usable, key=lambda point: abs(point.rate - START_RATE)).threshold if usable else fallback


def _rounded(box: Sequence[float]) -> list[float]:
    return [round(float(value), 1) for value in box]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
