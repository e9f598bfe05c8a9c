"""What the splits of a data set hold: patients, images, views, classes, sizes of boxes, densities, vendors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.core.image_truth import image_truth, joined_truth
from mammo_d2.core.lesion_classes import LABELS

UNKNOWN = "unknown"
#: Of the longer sides of boxes.
PERCENTILES = (5, 50, 95)
_DENSITY_LETTERS = dict(zip("1234", "ABCD", strict=True))


@dataclass(frozen=True)
class BoxSizes:
    """Longer sides of the boxes of one class.

    Attributes:
        boxes: number of boxes.
        pixels: ``PERCENTILES`` of the longer side in pixels of the prepared image.
        millimetres: the same in mm; None where no image with a box knows its pixel spacing.
        without_spacing: boxes on images of unknown pixel spacing, which are not in ``millimetres``.
    """

    boxes: int
    pixels: tuple[float, ...]
    millimetres: tuple[float, ...] | None
    without_spacing: int


@dataclass(frozen=True)
class SplitFacts:
    """Counts of one split; counters are by name, with "unknown" where the images do not say it.

    Attributes:
        name: of the split.
        images, patients, exams: numbers; images without a patient are not among the patients.
        without_patient: images without a patient.
        views, sides, densities, birads, vendors: images of each. Densities 1 to 4 count as A to D.
        sizes: images of each "width x height", the most frequent first.
        truth: images that show a class, that are known to show none ("none"), and unknown ones; an image of two
            classes counts for each.
        patients_with: patients with an image of the class, patients all of whose images are known to show none.
        box_sizes: by class.
    """

    name: str
    images: int
    patients: int
    exams: int
    without_patient: int
    views: dict[str, int]
    sides: dict[str, int]
    truth: dict[str, int]
    patients_with: dict[str, int]
    densities: dict[str, int]
    birads: dict[str, int]
    vendors: dict[str, int]
    sizes: dict[str, int]
    box_sizes: dict[str, BoxSizes]

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain types."""
        return asdict(self)


def split_facts(name: str, data: Mapping[str, Any]) -> SplitFacts:
    """Count what one checked COCO file holds.

    Args:
        name: of the split.
        data: content of the file, without errors (see ``validate_coco``).
    """
    images = data["images"]
    names = {category["id"]: category["name"] for category in data["categories"]}
    own = list(names.values())
    classes = list(dict.fromkeys([*LABELS, *own])) if set(LABELS) & set(own) else own
    row_of = {category: classes.index(text) for category, text in names.items()}
    annotations: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in images}
    for annotation in data.get("annotations", ()):
        annotations[annotation["image_id"]].append({**annotation, "category_id": row_of[annotation["category_id"]]})
    truths = [image_truth({**image, "annotations": annotations[image["id"]]}, classes) for image in images]
    by_patient: dict[Any, list[list[int | None]]] = {}
    for image, truth in zip(images, truths, strict=True):
        if image.get("patient_id") is not None:
            by_patient.setdefault(image["patient_id"], []).append(truth)
    patient_truths = [[joined_truth(column) for column in zip(*rows, strict=True)] for rows in by_patient.values()]
    return SplitFacts(
        name=name,
        images=len(images),
        patients=len(by_patient),
        exams=len({image["exam_id"] for image in images if image.get("exam_id") is not None}),
        without_patient=sum(image.get("patient_id") is None for image in images),
        views=_counted(image.get("view") for image in images),
        sides=_counted(image.get("laterality") for image in images),
        truth=_count_truth(truths, classes),
        patients_with=_count_truth(patient_truths, classes),
        densities=_counted(_density(image.get("density")) for image in images),
        birads=_counted(image.get("birads") for image in images),
        vendors=_counted(_source_fact(image, "vendor") for image in images),
        sizes=_counted(f"{image['width']} x {image['height']}" for image in images),
        box_sizes=_box_sizes(images, annotations, classes),
    )


def facts_table(splits: Sequence[SplitFacts], most: int = 8) -> str:
    """A table for a person: a row per fact, a column per split.

    Args:
        splits: at least one.
        most: values of one fact that are named; the others are summed up.
    """
    rows: list[list[Any]] = []
    for title, field in (("images", "images"), ("patients", "patients"), ("exams", "exams")):
        rows.append([title, *(getattr(split, field) for split in splits)])
    if any(split.without_patient for split in splits):
        rows.append(["images without patient", *(split.without_patient for split in splits)])
    for title, field in (
        ("images: {}", "truth"), ("patients: {}", "patients_with"), ("view {}", "views"), ("side {}", "sides"),
        ("density {}", "densities"), ("BI-RADS {}", "birads"), ("vendor {}", "vendors"), ("size {}", "sizes"),
    ):  # fmt: skip
        rows += _counter_rows(title, [getattr(split, field) for split in splits], most)
    for name in dict.fromkeys(name for split in splits for name in split.box_sizes):
        sizes = [split.box_sizes.get(name) for split in splits]
        rows.append([f"boxes: {name}", *(box.boxes if box else 0 for box in sizes)])
        rows.append(["  longer side, px", *(_range_text(box.pixels if box else None, 0) for box in sizes)])
        rows.append(["  longer side, mm", *(_range_text(box.millimetres if box else None, 1) for box in sizes)])
        if any(box and box.millimetres and box.without_spacing for box in sizes):
            rows.append(["  without mm", *(box.without_spacing if box else 0 for box in sizes)])
    text = tabulate(rows, headers=["", *(split.name for split in splits)], tablefmt="simple", disable_numparse=True,
                    colalign=("left", *("right" for _ in splits)), preserve_whitespace=True)  # fmt: skip
    low, middle, high = PERCENTILES
    return f"{text}\nlonger side: median ({low}th to {high}th percentile)" if middle == 50 else text


def _counted(values: Iterable[Any]) -> dict[str, int]:
    """Values with their number, the most frequent first, then by name; None and "" are unknown."""
    counter = Counter(UNKNOWN if value is None or value == "" else str(value) for value in values)
    return dict(sorted(counter.items(), key=lambda item: (item[0] == UNKNOWN, -item[1], item[0])))


def _density(value: Any) -> str | None:
    text = "" if value is None else str(value).strip().upper()
    return _DENSITY_LETTERS.get(text, text) or None


def _source_fact(image: Mapping[str, Any], key: str) -> Any:
    source = image.get("source")
    return source.get(key) if isinstance(source, Mapping) else None


def _count_truth(truths: Iterable[Sequence[int | None]], classes: Sequence[str]) -> dict[str, int]:
    counts = dict.fromkeys([*classes, "none", UNKNOWN], 0)
    for truth in truths:
        for name, value in zip(classes, truth, strict=True):
            counts[name] += value == 1
        joined = joined_truth(truth)
        counts["none"] += joined == 0
        counts[UNKNOWN] += joined is None
    return counts


def _box_sizes(
    images: Iterable[Mapping[str, Any]], annotations: Mapping[Any, Sequence[Mapping[str, Any]]], classes: Sequence[str]
) -> dict[str, BoxSizes]:
    pixels: dict[str, list[float]] = {name: [] for name in classes}
    millimetres: dict[str, list[float]] = {name: [] for name in classes}
    for image in images:
        spacing = image.get("pixel_spacing")
        for annotation in annotations[image["id"]]:
            name, (width, height) = classes[annotation["category_id"]], annotation["bbox"][2:]
            pixels[name].append(max(width, height))
            if spacing:
                millimetres[name].append(max(width * spacing[1], height * spacing[0]))
    return {
        name: BoxSizes(
            boxes=len(sides),
            pixels=_percentiles(sides),
            millimetres=_percentiles(millimetres[name]) if millimetres[name] else None,
            without_spacing=len(sides) - len(millimetres[name]),
        )
        for name, sides in pixels.items()
        if sides
    }


def _percentiles(values: Sequence[float]) -> tuple[float, ...]:
    return tuple(round(float(value), 2) for value in np.percentile(values, PERCENTILES))


def _counter_rows(title: str, counters: Sequence[Mapping[str, int]], most: int) -> list[list[Any]]:
    totals: Counter[str] = Counter()
    for counter in counters:
        totals.update(counter)
    names = sorted(totals, key=lambda name: (name == UNKNOWN, -totals[name]))
    known = [name for name in names if totals[name]]
    shown, others = known[:most], known[most:]
    if len(others) == 1:
        shown, others = known, []
    rows = [[title.format(name), *(counter.get(name, 0) for counter in counters)] for name in shown]
    if others:
        sums = [sum(counter.get(name, 0) for name in others) for counter in counters]
        rows.append([title.format(f"({len(others)} others)"), *sums])
    return rows


def _range_text(percentiles: Sequence[float] | None, digits: int) -> str:
    if percentiles is None:
        return "-"
    low, middle, high = (f"{value:.{digits}f}" for value in percentiles)
    return f"{middle} ({low} to {high})"
