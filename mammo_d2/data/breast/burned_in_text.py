"""Text that was burnt into the pixels beside the breast: rows of character-like marks. No character is recognised.

Found: horizontal text, brighter than the background by a quarter of the image's range. Not found: text on the breast,
text along the other axis, handwriting, single characters. Names, dates and numbers written into 124 real films beside
the breast (13 to 22 pixels high) were found in 90 to 98 %, by size; none was found on the films as they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

# Longer side of the copy that is searched, in pixels; a character is then at least six pixels high.
_WORKING_SIDE = 1600
# Brightness above the background, as a part of the range up to the brightest pixels.
_CONTRAST = 0.25
# Height of a character in pixels and as a part of the image's height; its width by its height.
_LEAST_HEIGHT, _HEIGHTS, _WIDTHS = 6, (0.004, 0.06), (0.08, 2.0)
# Part of its box that a character fills.
_FILLS = (0.12, 0.97)
# Characters of one line: ratio of heights, distance by the height, common part of the smaller one's height.
_SAME_HEIGHT, _GAP, _OVERLAP = 1.8, 1.2, 0.6
_LEAST_CHARACTERS = 3
# A view marker ("R MLO") has fewer; names, dates and numbers have more.
_LONG_LINE = 6
# Blanked around a line, as a part of its height.
_MARGIN = 0.35


@dataclass(frozen=True)
class TextLine:
    """A row of marks: XYWH box in whole pixels, and the number of marks."""

    box: tuple[int, int, int, int]
    characters: int

    @property
    def is_long(self) -> bool:
        """Whether it is longer than a view marker."""
        return self.characters >= _LONG_LINE


def find_text(image: np.ndarray, breast: np.ndarray) -> list[TextLine]:
    """Lines of text outside of the breast, from top to bottom.

    Args:
        image: (H, W), bright on dark.
        breast: bool (H, W) mask.
    """
    scale = min(1.0, _WORKING_SIDE / max(image.shape))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    image = cv2.resize(image.astype(np.float32, copy=False), size, interpolation=cv2.INTER_AREA)
    outside = ~cv2.resize(breast.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST).astype(bool)
    if not outside.any():
        return []
    background, top = float(np.median(image[outside])), float(image.max())
    bright = (outside & (image > background + _CONTRAST * (top - background))).astype(np.uint8)
    _, _, stats, _ = cv2.connectedComponentsWithStats(bright, connectivity=8)
    height = image.shape[0]
    tall, wide = stats[:, cv2.CC_STAT_HEIGHT], stats[:, cv2.CC_STAT_WIDTH]
    fill = stats[:, cv2.CC_STAT_AREA] / (tall * wide)
    shape = wide / tall
    is_mark = (
        (tall >= max(_LEAST_HEIGHT, _HEIGHTS[0] * height)) & (tall <= max(_LEAST_HEIGHT, _HEIGHTS[1] * height))
        & (shape >= _WIDTHS[0]) & (shape <= _WIDTHS[1]) & (fill >= _FILLS[0]) & (fill <= _FILLS[1])
    )  # fmt: skip
    is_mark[0] = False
    lines: list[list[np.ndarray]] = []
    for mark in sorted(stats[is_mark], key=lambda values: (values[0], values[1])):
        line = next((line for line in lines if _continues(line[-1], mark)), None)
        if line is None:
            lines.append([mark])
        else:
            line.append(mark)
    factors = breast.shape[1] / size[0], breast.shape[0] / size[1]
    found = [_line(line, factors) for line in lines if len(line) >= _LEAST_CHARACTERS]
    return sorted(found, key=lambda line: (line.box[1], line.box[0]))


def text_warning(lines: list[TextLine]) -> str | None:
    """What to tell a person, or None if there are no lines or only what may be a view marker."""
    if not any(line.is_long for line in lines):
        return None
    boxes = ", ".join(str(list(line.box)) for line in lines[:3])
    return (
        f"text seems to be burnt into the pixels ({len(lines)} lines, up to {max(line.characters for line in lines)} "
        f"characters, at x, y, width, height {boxes}), perhaps a name; look at it, or blank it (--blank-text)"
    )


def blank_text(image: np.ndarray, breast: np.ndarray, lines: list[TextLine]) -> np.ndarray:
    """A copy of the image with all lines, view markers too, in the grey of the background; the breast stays.

    Args:
        image, breast: as for ``find_text``.
        lines: what it found.
    """
    out = image.copy()
    if not lines:
        return out
    background = np.asarray(np.median(image[::4, ::4][~breast[::4, ::4]]), image.dtype)
    for line in lines:
        x, y, w, h = line.box
        extra = max(2, round(_MARGIN * h))
        rows, columns = slice(max(0, y - extra), y + h + extra), slice(max(0, x - extra), x + w + extra)
        part = out[rows, columns]
        part[~breast[rows, columns]] = background
    return out


def _continues(last: np.ndarray, mark: np.ndarray) -> bool:
    """Whether a mark is the next one of a line; marks come from left to right."""
    x, y, w, h = (int(value) for value in last[:4])
    left, up, _, tall = (int(value) for value in mark[:4])
    low, high = sorted((h, tall))
    common = min(y + h, up + tall) - max(y, up)
    return high <= _SAME_HEIGHT * low and common >= _OVERLAP * low and left - (x + w) <= _GAP * high


def _line(marks: list[np.ndarray], factors: tuple[float, float]) -> TextLine:
    """The line around marks; ``factors`` (x, y) lead back to pixels of the image."""
    boxes = np.array([mark[:4] for mark in marks])
    x, y = (int(value) for value in np.floor(boxes[:, :2].min(axis=0) * factors))
    right, bottom = (int(value) for value in np.ceil((boxes[:, :2] + boxes[:, 2:]).max(axis=0) * factors))
    return TextLine((x, y, right - x, bottom - y), len(marks))
