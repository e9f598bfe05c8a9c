"""Pictures of lesions: the place in the image, a crop around it, and the windows that are classified."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.boxes import xywh_to_xyxy
from mammo_d2.data.loading.resize import fitted_size, resize_image
from mammo_d2.data.reading.reader import read_image
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.pictures.drawing import (
    CLASS_COLORS,
    TRUTH_COLOR,
    Color,
    NamedPicture,
    overlay,
    side_by_side,
    to_display,
    with_legend,
)
from mammo_d2.pictures.image_choice import spread
from mammo_d2.report.shown_images import describe_image

# Longer side of a picture's panel, in pixels; most windows drawn of a lesion.
LESION_PANEL_SIDE = 420
MAX_WINDOWS = 5

_MALIGNANT, _BENIGN = CLASS_COLORS[:2]


def window_color(malignancy: float) -> Color:
    """Blue of benign to orange of malignant, in equal steps."""
    mixed = (1 - malignancy) * np.array(_BENIGN, float) + malignancy * np.array(_MALIGNANT, float)
    red, green, blue = np.rint(mixed).astype(int).tolist()
    return red, green, blue


def crop_around(box: np.ndarray, windows: np.ndarray, image_size: Sequence[int]) -> tuple[int, int, int, int]:
    """The smallest square, XYXY in whole pixels, that holds a lesion's box and its windows, moved into the image.

    Args:
        box: (4,) XYXY.
        windows: (n, 4).
        image_size: (height, width); along an axis that is shorter than the square's side the crop covers all of it.
    """
    boxes = np.concatenate([box[np.newaxis], windows])
    low, high = np.floor(boxes[:, :2].min(axis=0)).astype(int), np.ceil(boxes[:, 2:].max(axis=0)).astype(int)
    limit = np.array(image_size[::-1])
    side = int((high - low).max())
    start = np.clip((low + high - side) // 2, 0, np.maximum(limit - side, 0))
    stop = np.minimum(start + side, limit)
    return int(start[0]), int(start[1]), int(stop[0]), int(stop[1])


def lesion_picture(
    pixels: np.ndarray,
    box: np.ndarray,
    windows: np.ndarray,
    scores: np.ndarray,
    *,
    malignancy: float,
    truth: str,
    side: int = LESION_PANEL_SIDE,
) -> np.ndarray:
    """Three panels of a lesion: the image with its box, an enlarged crop, and the crop with windows.

    At most ``MAX_WINDOWS`` windows are drawn, evenly spread from the least to the most malignant.

    Args:
        pixels: (H, W) of any real dtype.
        box: (4,) XYXY of the lesion, in pixels.
        windows: (n, 4) XYXY.
        scores: (n,) their malignancy.
        malignancy: of the lesion, written below with ``truth``.
        truth: "malignant" or "benign".
        side: longer one of a panel.

    Returns:
        (h, w, 3) uint8 RGB.
    """
    x0, y0, x1, y1 = crop = crop_around(box, windows, pixels.shape)
    grey = to_display(pixels)
    whole = resize_image(grey, fitted_size(grey.shape, (side, side)))
    part = resize_image(grey[y0:y1, x0:x1], fitted_size((y1 - y0, x1 - x0), (side, side)))
    shrunk, grown = whole.shape[0] / grey.shape[0], part.shape[0] / (y1 - y0)
    origin = np.array([x0, y0, x0, y0])
    near = (box - origin) * grown
    shown = spread(np.argsort(scores, kind="stable"), MAX_WINDOWS)
    colors = [window_color(score) for score in scores[shown].tolist()]
    boxes = (windows[shown] - origin) * grown
    judged = overlay(part, near, boxes, scores[shown].tolist(), prediction_colors=colors, windowed=True)
    legend = [("lesion", TRUTH_COLOR), ("windows: benign", _BENIGN), ("malignant", _MALIGNANT)]
    return side_by_side(
        [
            overlay(whole, box * shrunk, region=np.array(crop) * shrunk, windowed=True, caption="in its image"),
            overlay(part, near, windowed=True, caption=f"truth {truth}, malignancy {malignancy:.2f}"),
            with_legend(judged, legend),
        ]
    )


def choose_lesions(entries: Sequence[Mapping[str, Any]], limit: int) -> list[tuple[str, list[int]]]:
    """Rows of lesions to show: malignant ones, then benign ones, each by falling malignancy, evenly spread over all.

    They include the best and the worst classified ones. Lesions of unknown truth are left out.

    Args:
        entries: of ``lesion_scores.json``.
        limit: most lesions of each kind.
    """
    chosen = []
    for kind, name in ((1, "malignant"), (0, "benign")):
        rows = np.array([row for row, entry in enumerate(entries) if entry["truth"] == kind], np.int64)
        falling = np.argsort([-entries[row]["malignancy"] for row in rows], kind="stable")
        chosen.append((name, spread(rows[falling], limit).tolist()))
    return chosen


def lesion_pictures(
    records: Sequence[Mapping[str, Any]], entries: Sequence[Mapping[str, Any]], limit: int = 4
) -> tuple[list[NamedPicture], list[str]]:
    """Pictures of a data set's lesions, chosen by ``choose_lesions``.

    Args:
        records: dataset records.
        entries: of ``lesion_scores.json``.
        limit: most lesions of each kind.

    Returns:
        The pictures, and for every lesion whose image cannot be read the reason.

    Raises:
        ResultsError: a lesion of an image that is not among the records.
    """
    by_id = {record["image_id"]: record for record in records}
    for number, entry in enumerate(entries):
        if entry["image_id"] not in by_id:
            raise ResultsError(
                f"lesion scores entry {number}: image_id {entry['image_id']!r} is not in the data set; the data set "
                "has changed since the evaluation, evaluate again"
            )
    pictures, problems = [], []
    for truth, rows in choose_lesions(entries, limit):
        for row in rows:
            entry = entries[row]
            record, malignancy = by_id[entry["image_id"]], entry["malignancy"]
            windows = xywh_to_xyxy([window["bbox"] for window in entry["windows"]]).reshape(-1, 4)
            scores = np.array([window["malignancy"] for window in entry["windows"]], np.float64)
            try:
                picture = lesion_picture(
                    read_image(record["file_name"])[0],
                    xywh_to_xyxy(entry["bbox"]),
                    windows,
                    scores,
                    malignancy=malignancy,
                    truth=truth,
                )
            except (OSError, ValueError) as error:
                problems.append(f"a lesion of image {entry['image_id']} left out: {error}")
                continue
            caption = f"{describe_image(record)}: {truth}, malignancy {malignancy:.2f}"
            if len(scores):
                caption += f", its {len(scores)} windows from {scores.min():.2f} to {scores.max():.2f}"
            name = re.sub(r"[^\w.-]+", "_", f"{truth}_{entry['image_id']}_{entry.get('annotation_id', row)}")
            pictures.append(NamedPicture(truth, f"{name}.png", picture, caption))
    return pictures, problems
