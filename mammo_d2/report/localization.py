"""Weak localisation in pictures: the best regions of each class over the image, the truth, and the response map."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.array_files import load_arrays
from mammo_d2.core.image_truth import image_truth, joined_truth
from mammo_d2.data.reading.reader import read_image
from mammo_d2.evaluation.metrics.detection.matching import HitRule, rank_within
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class, first_hit_ranks
from mammo_d2.evaluation.metrics.tables import EvaluationData
from mammo_d2.pictures.drawing import (
    TRUTH_COLOR,
    NamedPicture,
    class_colors,
    overlay,
    to_display,
    with_legend,
)
from mammo_d2.pictures.evidence import map_panels
from mammo_d2.pictures.image_choice import spread
from mammo_d2.report.shown_images import describe_image

# Longer side of a picture's panel, in pixels.
REGION_PANEL_SIDE = 560


def localization_picture(
    pixels: np.ndarray,
    classes: Sequence[str],
    regions: tuple[np.ndarray, np.ndarray, np.ndarray],
    truth: tuple[np.ndarray, np.ndarray],
    response: np.ndarray | None = None,
    *,
    top: int = 3,
    side: int = REGION_PANEL_SIDE,
) -> np.ndarray:
    """One image with its best regions and the truth, beside it the response maps of the classes, if any.

    Args:
        pixels: (H, W) of any real dtype.
        classes: class names; each has its colour, which the legend names.
        regions: boxes (n, 4) XYXY in pixels of the image, scores (n,), classes (n,); the best ``top`` of each class are
            drawn, each with its score and place.
        truth: boxes (m, 4) and classes (m,).
        response: (C, h, w) in [0, 1], covers the image; its opacity is the response itself.
        top: regions of a class.
        side: longer side of a panel; a larger image is shrunk.

    Returns:
        (h', w', 3) uint8 RGB; panels from left to right.

    Raises:
        ValueError: the map does not have one channel per class.
    """
    shown = to_display(pixels, side)
    boxes, scores, labels = regions
    rows = best_of_each_class(scores, labels, top)
    colors = class_colors(classes)
    factor = np.tile([shown.shape[1] / pixels.shape[1], shown.shape[0] / pixels.shape[0]], 2)
    true_boxes = np.asarray(truth[0], np.float64).reshape(-1, 4) * factor
    places = rank_within(labels[rows]) + 1
    picture = overlay(
        shown,
        true_boxes,
        boxes[rows] * factor,
        scores[rows].tolist(),
        truth_labels=[classes[label] for label in truth[1]] if len(classes) > 1 else (),
        prediction_labels=[f"#{place}" for place in places],
        prediction_colors=[colors[label] for label in labels[rows]],
        windowed=True,
    )
    legend = [("truth", TRUTH_COLOR), *zip(classes, colors, strict=True)]
    panels = [with_legend(picture, legend)]
    if response is not None:
        panels += map_panels(shown, response, classes, true_boxes, "response")
    return np.concatenate(panels, axis=1)


# Groups of images without box; those with boxes are grouped by their classes.
POSITIVE_WITHOUT_BOX, NEGATIVE, UNKNOWN = "positive without box", "without lesion", "with unknown label"


def choose_images(with_box: np.ndarray, truth: Sequence[int | None], limit: int) -> list[np.ndarray]:
    """Rows of images to show, evenly spread over the data set, in C + 3 groups.

    The groups are: images with a lesion of each class; of the images without any box, those known to be positive, those
    known to be negative, and those whose label is unknown. The choice does not depend on the predictions: the pictures
    are neither the best nor the worst.

    Args:
        with_box: (N, C) bool, an image has a box of a class.
        truth: (N,) of all classes together, 1, 0 or None (unknown), see ``joined_truth``.
        limit: most images of each group.
    """
    rest = ~with_box.any(axis=1)
    values = np.array(truth, float)  # None becomes NaN
    without_box = [rest & (values == 1), rest & (values == 0), rest & np.isnan(values)]
    groups = [with_box[:, label] for label in range(with_box.shape[1])] + without_box
    return [spread(np.flatnonzero(group), limit) for group in groups]


def localization_pictures(
    records: Sequence[Mapping[str, Any]],
    data: EvaluationData,
    rule: HitRule,
    maps: str | os.PathLike | None = None,
    *,
    top: int = 3,
    limit: int = 4,
) -> tuple[list[NamedPicture], list[str]]:
    """Pictures of a data set's images, chosen by ``choose_images``.

    Args:
        records: dataset records.
        data: their tables, with the regions as detections.
        rule: when a region hits a lesion.
        maps: file of response maps (C, h, w) by image id.
        top: regions of a class.
        limit: most images of each kind.

    Returns:
        The pictures, and for every image that cannot be read the reason.
    """
    classes = data.images.classes
    ranks = first_hit_ranks(data, rule)
    truth = [image_truth(record, classes) for record in records]
    chosen = choose_images(~np.isnan(ranks), [joined_truth(values) for values in truth], limit)
    pictures, problems = [], []
    for group, rows in zip([*classes, POSITIVE_WITHOUT_BOX, NEGATIVE, UNKNOWN], chosen, strict=True):
        for row in rows.tolist():
            regions, lesions = data.detections, data.lesions
            regions = regions.take(regions.image == row)
            lesions = lesions.take((lesions.image == row) & ~lesions.crowd)
            try:
                picture = localization_picture(
                    read_image(records[row]["file_name"])[0],
                    classes,
                    (regions.boxes, regions.scores, regions.label),
                    (lesions.boxes, lesions.label),
                    _response(maps, records[row]["image_id"]),
                    top=top,
                )
            except (OSError, ValueError) as error:
                problems.append(f"image {records[row]['image_id']} left out: {error}")
                continue
            found = map(_found, classes, ranks[row].tolist(), truth[row], [top] * len(classes))
            caption = ", ".join([describe_image(records[row]), *filter(None, found)])
            name = re.sub(r"[^\w.-]+", "_", f"{group}_{records[row]['image_id']}")
            pictures.append(NamedPicture(group, f"{name}.png", picture, caption))
    return pictures, problems


def _found(name: str, rank: float, truth: int | None, top: int) -> str:
    """What a caption says of a class: its lesion's hit, or what is known without a box; nothing of a negative."""
    if not np.isnan(rank):
        return f"{name} lesion hit by region {int(rank)}" if rank <= top else f"{name} lesion not hit"
    if truth is None:
        return f"{name} unknown"
    return f"{name} without box" if truth else ""


def _response(maps: str | os.PathLike | None, image_id: Any) -> np.ndarray | None:
    if maps is None:
        return None
    name = str(image_id)
    return load_arrays(maps, "evaluate the run again", [name]).get(name)
