"""Drawing on mammograms: an 8-bit image with truth (green) and predictions (orange).

A picture is an (H, W, 3) uint8 array, RGB. Boxes are XYXY in continuous pixels of their image: a box around pixels
10..19 is [10, 20]. Its frame covers pixels 10 and 19 and grows outward, so that the inside stays visible.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.files import write_bytes_atomic
from mammo_d2.data.loading.resize import fitted_size, resize_image
from mammo_d2.data.reading.intensity import INPUT_FULL_SCALE, scale_intensity

Color = tuple[int, int, int]

# Bluish green and orange, distinguishable with red-green colour blindness.
TRUTH_COLOR: Color = (40, 215, 150)
PREDICTION_COLOR: Color = (255, 150, 30)
# Predictions of several classes; distinguishable with most kinds of colour blindness.
CLASS_COLORS: tuple[Color, ...] = (PREDICTION_COLOR, (86, 180, 233), (204, 121, 167), (240, 228, 66))
REGION_COLOR: Color = (110, 120, 130)
TEXT_COLOR: Color = (225, 228, 232)
PAPER_COLOR: Color = (18, 20, 23)
LABEL_TEXT_COLOR: Color = (10, 10, 10)

# Display window, as percentiles of the pixels brighter than the background.
DISPLAY_PERCENTILES = (0.5, 99.8)

_FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class NamedPicture:
    """A picture with its group ("malignant", "without lesion"), a name for its file, and a caption."""

    group: str
    name: str
    picture: np.ndarray
    caption: str


def class_colors(classes: Sequence[str]) -> list[Color]:
    """A colour for each class: "malignant", or else the first class, has ``PREDICTION_COLOR``."""
    first = "malignant" if "malignant" in classes else next(iter(classes), "")
    others = cycle(CLASS_COLORS[1:])
    return [CLASS_COLORS[0] if name == first else next(others) for name in classes]


def to_display(image: np.ndarray, max_side: int | None = None) -> np.ndarray:
    """Window an image for display: ``DISPLAY_PERCENTILES`` of its non-background pixels become black and white.

    Args:
        image: (H, W), any real dtype, bright tissue on dark.
        max_side: the image is first shrunk (never enlarged) to at most this longer side, in pixels.

    Returns:
        (h, w) uint8. A constant image is black.

    Raises:
        ValueError: the image is empty, not two-dimensional, or has non-finite values.
    """
    if image.ndim != 2:
        raise ValueError(f"an image to display has two dimensions (height, width), not shape {image.shape}")
    # OpenCV cannot resize 64-bit integers and half floats.
    image = image.astype(np.float32, copy=False)
    if max_side is not None and max(image.shape) > max_side:
        image = resize_image(image, fitted_size(image.shape, (max_side, max_side)))
    scaled = scale_intensity(image, INPUT_FULL_SCALE, "percentile", DISPLAY_PERCENTILES)
    return np.rint(scaled).astype(np.uint8)


def overlay(
    image: np.ndarray,
    truth: Any = (),
    predictions: Any = (),
    scores: Sequence[float] = (),
    *,
    truth_labels: Sequence[str] = (),
    prediction_labels: Sequence[str] = (),
    prediction_colors: Sequence[Color] = (),
    region: Any = None,
    max_side: int = 720,
    windowed: bool = False,
    caption: str = "",
) -> np.ndarray:
    """Draw truth and predictions on an image.

    Args:
        image: (H, W), any real dtype.
        truth, predictions: (N, 4) XYXY boxes in pixels of ``image``.
        scores: (N,) of the predictions; each is written at its box, higher scores are drawn on top.
        truth_labels, prediction_labels: text at the boxes (class names); empty, or one per box.
        prediction_colors: one per box; by default all have ``PREDICTION_COLOR``.
        region: XYXY of the evaluated part of the image, drawn as a thin grey frame.
        max_side: largest longer side of the picture in pixels; larger images are shrunk.
        windowed: ``image`` comes from ``to_display``, or is a picture (H, W, 3) uint8 RGB, and is drawn unchanged;
            ``max_side`` is ignored.
        caption: a line written below the picture.

    Returns:
        (h, w, 3) uint8 RGB.

    Raises:
        ValueError: scores, labels or colours do not match the boxes, or the image cannot be displayed.
    """
    shown = image if windowed else to_display(image, max_side)
    factor = np.tile([shown.shape[1] / image.shape[1], shown.shape[0] / image.shape[0]], 2)
    truth = np.asarray(truth, np.float64).reshape(-1, 4) * factor
    predictions = np.asarray(predictions, np.float64).reshape(-1, 4) * factor
    truth_text = _labels(truth, (), truth_labels, "truth")
    prediction_text = _labels(predictions, scores, prediction_labels, "predictions")
    colors = list(prediction_colors) or [PREDICTION_COLOR] * len(predictions)
    if len(colors) != len(predictions):
        raise ValueError(f"predictions: {len(colors)} colours for {len(predictions)} boxes")

    picture = shown.copy() if shown.ndim == 3 else cv2.cvtColor(shown, cv2.COLOR_GRAY2RGB)
    if region is not None:
        picture = draw_boxes(picture, np.asarray(region, np.float64)[np.newaxis] * factor, REGION_COLOR, thickness=1)
    order = np.argsort(np.asarray(scores, np.float64), kind="stable") if len(scores) else range(len(predictions))
    worst_first = [int(index) for index in order]
    picture = draw_boxes(picture, truth, TRUTH_COLOR)
    for index in worst_first:
        picture = draw_boxes(picture, predictions[index], colors[index])
    # Labels of the best predictions are placed first.
    taken: list[tuple[int, int, int, int]] = []
    for index in reversed(worst_first):
        _draw_label(picture, prediction_text[index], predictions[index], colors[index], taken)
    for text, box in zip(truth_text, truth, strict=True):
        _draw_label(picture, text, box, TRUTH_COLOR, taken)
    return with_caption(picture, caption) if caption else picture


def draw_boxes(picture: np.ndarray, boxes: Any, color: Color, thickness: int | None = None) -> np.ndarray:
    """A copy of a picture with the frames of XYXY boxes (N, 4) in picture pixels.

    A frame covers the outermost pixels of its box and grows outward; later boxes cover earlier ones.

    Args:
        picture: (H, W, 3) uint8.
        boxes: may extend beyond the picture.
        color: RGB.
        thickness: in pixels; by default 2, or 1 if the picture's longer side is below 400 pixels.
    """
    picture = np.array(picture, order="C")
    thickness = thickness or (2 if max(picture.shape[:2]) >= 400 else 1)
    for x1, y1, x2, y2 in np.rint(np.asarray(boxes, np.float64).reshape(-1, 4)).astype(int).tolist():
        right, bottom = max(x2 - 1, x1), max(y2 - 1, y1)
        for grow in range(thickness):
            cv2.rectangle(picture, (x1 - grow, y1 - grow), (right + grow, bottom + grow), color, 1)
    return picture


def with_caption(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a line of text in a bar below it; text that does not fit is shortened with dots."""
    scale = _font_scale(picture)
    (_, text_height), baseline = cv2.getTextSize("Ag", _FONT, scale, 1)
    bar = np.full((text_height + baseline + 10, picture.shape[1], 3), PAPER_COLOR, np.uint8)
    origin = (5, 5 + text_height)
    cv2.putText(bar, _fitting(text, picture.shape[1] - 10, scale), origin, _FONT, scale, TEXT_COLOR, 1, cv2.LINE_AA)
    return np.concatenate([picture, bar])


def with_legend(picture: np.ndarray, entries: Sequence[tuple[str, Color]]) -> np.ndarray:
    """The picture with a legend in a bar below it, as high as a caption: a square of each colour and its name.

    Names that do not fit into the width are shortened or left out.
    """
    scale = _font_scale(picture)
    (_, text_height), baseline = cv2.getTextSize("Ag", _FONT, scale, 1)
    bar = np.full((text_height + baseline + 10, picture.shape[1], 3), PAPER_COLOR, np.uint8)
    left, top = 5, 5 + baseline // 2
    for name, color in entries:
        text = _fitting(name, max(picture.shape[1] - left - text_height - 10, 0), scale)
        cv2.rectangle(bar, (left, top), (left + text_height - 1, top + text_height - 1), color, cv2.FILLED)
        start = left + text_height + 5
        cv2.putText(bar, text, (start, 5 + text_height), _FONT, scale, TEXT_COLOR, 1, cv2.LINE_AA)
        left = start + cv2.getTextSize(text, _FONT, scale, 1)[0][0] + 14
    return np.concatenate([picture, bar])


def contact_sheet(tiles: Sequence[np.ndarray], columns: int = 4, gap: int = 8) -> np.ndarray:
    """Pictures of any sizes in a grid, row by row, each centred in a cell of the largest height and width.

    Args:
        tiles: at least one (h, w, 3) uint8.
        columns: cells per row.
        gap: pixels between and around the cells.

    Raises:
        ValueError: no picture, or fewer than one column.
    """
    if not tiles or columns < 1:
        raise ValueError(f"a contact sheet needs pictures and columns: {len(tiles)} pictures, {columns} columns")
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    height, width = max(tile.shape[0] for tile in tiles), max(tile.shape[1] for tile in tiles)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, 3), PAPER_COLOR, np.uint8)
    for number, tile in enumerate(tiles):
        row, column = divmod(number, columns)
        top = gap + row * (height + gap) + (height - tile.shape[0]) // 2
        left = gap + column * (width + gap) + (width - tile.shape[1]) // 2
        sheet[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    return sheet


def side_by_side(tiles: Sequence[np.ndarray], gap: int = 8) -> np.ndarray:
    """Pictures of any sizes in a row, aligned at the top, with ``gap`` pixels between and around them.

    Args:
        tiles: at least one (h, w, 3) uint8.
        gap: in pixels.
    """
    height, width = max(tile.shape[0] for tile in tiles), sum(tile.shape[1] + gap for tile in tiles)
    row = np.full((height + 2 * gap, width + gap, 3), PAPER_COLOR, np.uint8)
    left = gap
    for tile in tiles:
        row[gap : gap + tile.shape[0], left : left + tile.shape[1]] = tile
        left += tile.shape[1] + gap
    return row


def pair_sheet(pairs: Sequence[tuple[np.ndarray, np.ndarray]], pairs_per_row: int = 2, gap: int = 8) -> np.ndarray:
    """A contact sheet of (positive, negative) training pairs, each picture with its caption."""
    tiles = [
        with_caption(picture, name)
        for pair in pairs
        for picture, name in zip(pair, ("positive", "negative"), strict=True)
    ]
    return contact_sheet(tiles, 2 * pairs_per_row, gap)


def encode_png(picture: np.ndarray) -> bytes:
    """A picture (H, W, 3) RGB or (H, W) grey, uint8, as the bytes of a PNG file."""
    channels_swapped = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.ndim == 3 else picture
    done, data = cv2.imencode(".png", channels_swapped)
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} and type {picture.dtype} cannot be written as PNG")
    return data.tobytes()


def save_picture(path: str | os.PathLike, picture: np.ndarray) -> Path:
    """Write a picture as PNG atomically; missing folders are created."""
    write_bytes_atomic(path, encode_png(picture))
    return Path(path)


def _labels(boxes: np.ndarray, scores: Sequence[float], labels: Sequence[str], what: str) -> list[str]:
    """One text per box: its score and label, if given."""
    for name, given in (("scores", scores), ("labels", labels)):
        if len(given) not in (0, len(boxes)):
            raise ValueError(f"{what}: {len(given)} {name} for {len(boxes)} boxes")
    # Scores of ranked regions sum to 1 over hundreds of regions, so many are small.
    numbers = [f"{score:.2g}" if 0 < score < 0.01 else f"{score:.2f}" for score in scores] or [""] * len(boxes)
    words = list(labels) or [""] * len(boxes)
    return [f"{number} {word}".strip() for number, word in zip(numbers, words, strict=True)]


def _draw_label(
    picture: np.ndarray, text: str, box: np.ndarray, color: Color, taken: list[tuple[int, int, int, int]]
) -> None:
    """Draw ``text`` on a filled tag at a box, in place, away from the ``taken`` tags; adds the new tag to ``taken``."""
    if not text:
        return
    scale = _font_scale(picture)
    text = _fitting(text, picture.shape[1] - 6, scale)
    (text_width, text_height), baseline = cv2.getTextSize(text, _FONT, scale, 1)
    width, height = text_width + 6, text_height + baseline + 2
    left, top = _place_label(box, width, height, picture.shape, taken)
    taken.append((left, top, left + width, top + height))
    cv2.rectangle(picture, (left, top), (left + width - 1, top + height - 1), color, cv2.FILLED)
    cv2.putText(picture, text, (left + 3, top + text_height + 1), _FONT, scale, LABEL_TEXT_COLOR, 1, cv2.LINE_AA)


def _place_label(
    box: np.ndarray, width: int, height: int, shape: Sequence[int], taken: Sequence[tuple[int, int, int, int]]
) -> tuple[int, int]:
    """(left, top) of a tag: the first free place above, below, right of, left of or inside the box."""
    x1, y1, x2, y2 = np.rint(box).astype(int).tolist()
    margin = 3
    places = [
        (x1 - margin + 1, y1 - margin - height),
        (x1 - margin + 1, y2 + margin),
        (x2 + margin, y1 - margin + 1),
        (x1 - margin - width, y1 - margin + 1),
        (x2 + margin, y2 + margin - height),
        (x1 - margin - width, y2 + margin - height),
        # Boxes as large as the picture: tags one below the other.
        *((x1 + 1, y1 + 1 + row * height) for row in range(4)),
    ]
    inside = [
        (min(max(left, 0), max(shape[1] - width, 0)), min(max(top, 0), max(shape[0] - height, 0)))
        for left, top in places
    ]
    # A tag moved up or down to stay in the picture would cover the box; sideways is harmless.
    for (left, top), (_, wanted_top) in zip(inside, places, strict=True):
        covered = any(left < t[2] and t[0] < left + width and top < t[3] and t[1] < top + height for t in taken)
        if top == wanted_top and not covered:
            return left, top
    return inside[0]


def _font_scale(picture: np.ndarray) -> float:
    """Hershey font scale: digits of 9 pixels on a picture of 300 to 13 pixels on one of 800."""
    return float(np.clip(max(picture.shape[:2]) / 1500, 0.38, 0.55))


def _fitting(text: str, width: int, scale: float) -> str:
    """``text`` in the font's characters (ASCII), shortened with dots to ``width`` pixels."""
    text = text.encode("ascii", "replace").decode("ascii")
    if cv2.getTextSize(text, _FONT, scale, 1)[0][0] <= width:
        return text
    while text and cv2.getTextSize(text + "...", _FONT, scale, 1)[0][0] > width:
        text = text[:-1]
    return text + "..."
