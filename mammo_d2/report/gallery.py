"""Examples of a detector's results: lesions found, lesions missed, the worst false positives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.data.reading.reader import read_image
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.detection.matching import HitRule, find_hits
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, images_from_records, lesions_from_records
from mammo_d2.pictures.drawing import encode_png, overlay
from mammo_d2.report.html import Block, Figure, Figures, Heading, Text

# Longer side of a gallery picture, in pixels; most other predictions drawn on one.
EXAMPLE_SIDE = 420
MAX_OTHERS = 8


@dataclass(frozen=True)
class Example:
    """One picture of the gallery.

    Attributes:
        image: row of the image.
        detection: row of the detection it is about, -1 for none.
        score: of that detection; of a missed lesion, its best hit below the threshold, NaN for none.
    """

    image: int
    detection: int
    score: float


@dataclass(frozen=True)
class Examples:
    """Chosen examples, and how many there are of each kind.

    Attributes:
        found, missed, false_positives: the examples.
        counts: (found, missed, false positives).
        unjudged: boxes that may be right: no box of the truth says where, but the image is positive or unknown.
    """

    found: list[Example]
    missed: list[Example]
    false_positives: list[Example]
    counts: tuple[int, int, int]
    unjudged: int = 0


def evaluation_data(
    records: Sequence[Mapping], classes: Sequence[str], predictions: Sequence[Mapping], class_of: Mapping[int, int]
) -> EvaluationData:
    """Tables of a data set and its COCO results.

    Args:
        records: dataset records.
        classes: class names.
        predictions: COCO results in the pixels of the records.
        class_of: {JSON category id: class}.

    Raises:
        ResultsError: an entry of an unknown image or category.
    """
    rows = {record["image_id"]: row for row, record in enumerate(records)}
    for number, entry in enumerate(predictions):
        if entry["image_id"] not in rows or entry["category_id"] not in class_of:
            raise ResultsError(
                f"results entry {number}: image_id {entry['image_id']!r} or category_id {entry['category_id']!r} is "
                "not in the data set; the data set has changed since the evaluation, evaluate again"
            )
    detections = DetectionTable(
        xywh_to_xyxy([entry["bbox"] for entry in predictions]).reshape(-1, 4),
        np.array([entry["score"] for entry in predictions], np.float64),
        np.array([rows[entry["image_id"]] for entry in predictions], np.int64),
        np.array([class_of[entry["category_id"]] for entry in predictions], np.int64),
    )
    return EvaluationData(images_from_records(records, classes), lesions_from_records(records), detections)


def choose_examples(data: EvaluationData, rule: HitRule, thresholds: Sequence[float], limit: int = 6) -> Examples:
    """Choose examples by the hit rule alone: a box may find several lesions, a lesion needs one box.

    * found: lesions with a hit by a box of their class at or above its threshold; evenly spread from the best score to
      the worst.
    * missed: the other lesions; evenly spread over the data set.
    * false positives: boxes that hit no lesion of their class, by falling score, one per image. On images that are
      positive for the class without a box of it, or unknown, boxes are neither right nor wrong.

    Args:
        data: images, lesions and detections.
        rule: when a box hits a lesion.
        thresholds: lowest accepted score of each class.
        limit: most examples of a kind.
    """
    lesions, detections = data.lesions, data.detections
    pairs = find_hits(rule, detections.boxes, detections.image, lesions.boxes, lesions.image, data.images.spacing)
    same = detections.label[pairs.detection] == lesions.label[pairs.lesion]
    hit_detection, hit_lesion = pairs.detection[same], pairs.lesion[same]
    best = np.full(len(lesions), -1, np.int64)
    rising = np.argsort(detections.scores[hit_detection], kind="stable")
    best[hit_lesion[rising]] = hit_detection[
        rising
    ]  # with several values for an element the last one, the best, remains
    score = np.where(best >= 0, detections.scores[best] if len(detections) else np.nan, np.nan)
    # NaN compares as False: a lesion without any hit is missed.
    accepted = score >= np.asarray(thresholds, np.float64)[lesions.label]
    real = ~(lesions.crowd | lesions.ignore)
    found = np.flatnonzero(real & accepted)
    found = found[np.argsort(-score[found], kind="stable")]
    missed = np.flatnonzero(real & ~accepted)
    misses = np.ones(len(detections), bool)
    misses[hit_detection] = False
    boxed = np.zeros((len(data.images), len(data.images.classes)), bool)
    boxed[lesions.image, lesions.label] = True
    judged = boxed | (data.images.truth == 0)
    unjudged = misses & ~judged[detections.image, detections.label]
    misses &= ~unjudged
    by_score = np.flatnonzero(misses)[np.argsort(-detections.scores[misses], kind="stable")]
    _, first_of_image = np.unique(detections.image[by_score], return_index=True)
    worst = by_score[np.sort(first_of_image)][:limit]

    def of_lesions(rows: np.ndarray) -> list[Example]:
        return [Example(int(lesions.image[row]), int(best[row]), float(score[row])) for row in rows]

    return Examples(
        of_lesions(spread(found, limit)),
        of_lesions(spread(missed, limit)),
        [Example(int(detections.image[row]), int(row), float(detections.scores[row])) for row in worst],
        (len(found), len(missed), int(misses.sum())),
        int(unjudged.sum()),
    )


def gallery_blocks(
    records: Sequence[Mapping[str, Any]], data: EvaluationData, examples: Examples, thresholds: Sequence[float]
) -> list[Block]:
    """The examples as pictures with the truth in green and the predictions in orange.

    An image that cannot be read is left out and named.
    """
    kinds = (
        ("Lesions found", examples.found, examples.counts[0], "from best to worst", "score"),
        ("Lesions missed", examples.missed, examples.counts[1], "spread over the data set", "best hit"),
        ("False positives of any score", examples.false_positives, examples.counts[2], "one per image", "score"),
    )
    blocks: list[Block] = []
    for title, chosen, count, order, score_name in kinds:
        blocks.append(Heading(f"{title}: {count}"))
        if not chosen:
            blocks.append(Text("None."))
            continue
        if len(chosen) < count:
            blocks.append(Text(f"{len(chosen)} of them, {order}."))
        figures, problems = [], []
        for example in chosen:
            try:
                picture = _picture(records[example.image], data, example, thresholds)
                figures.append(Figure(encode_png(picture), _caption(records[example.image], example, score_name)))
            except (OSError, ValueError) as error:
                problems.append(Text(f"Left out: {error}."))
        blocks += [Figures(figures, small=True), *problems]
    if examples.unjudged:
        words = "are on images that show their class without a box of it, or whose label is unknown"
        blocks.append(Text(f"{examples.unjudged} more boxes {words}: they may be right and are not counted here."))
    return blocks


def _picture(
    record: Mapping[str, Any], data: EvaluationData, example: Example, thresholds: Sequence[float]
) -> np.ndarray:
    pixels, _ = read_image(record["file_name"])
    lesions = data.lesions.take((data.lesions.image == example.image) & ~data.lesions.crowd)
    on_image = np.flatnonzero(data.detections.image == example.image)
    accepted = data.detections.scores[on_image] >= np.asarray(thresholds)[data.detections.label[on_image]]
    shown = on_image[accepted]
    shown = shown[np.argsort(-data.detections.scores[shown], kind="stable")][:MAX_OTHERS]
    if example.detection >= 0:
        shown = np.union1d(shown, [example.detection])
    detections = data.detections.take(shown)
    several = len(data.images.classes) > 1
    return overlay(
        pixels,
        lesions.boxes,
        detections.boxes,
        detections.scores.tolist(),
        truth_labels=[data.images.classes[label] for label in lesions.label] if several else (),
        prediction_labels=[data.images.classes[label] for label in detections.label] if several else (),
        max_side=EXAMPLE_SIDE,
    )


def describe_image(record: Mapping[str, Any]) -> str:
    """Image id, patient, laterality and view, as far as the record has them."""
    parts = [f"image {record['image_id']}"]
    if record.get("patient_id") is not None:
        parts.append(f"patient {record['patient_id']}")
    side = " ".join(str(record[key]) for key in ("laterality", "view") if record.get(key))
    return ", ".join([*parts, side] if side else parts)


def _caption(record: Mapping[str, Any], example: Example, score_name: str) -> str:
    score = "no box hits it" if np.isnan(example.score) else f"{score_name} {example.score:.2f}"
    return f"{describe_image(record)}, {score}"


def spread(rows: np.ndarray, limit: int) -> np.ndarray:
    """At most ``limit`` of ``rows``, first and last included, evenly spaced."""
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(int)]
