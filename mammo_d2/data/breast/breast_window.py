"""The breast on a canvas of fixed size without any scaling: what GMIC's released models were trained on.

Named steps: find the breast (``find_breast``), mirror it so that it faces right, place a window on it
(``place_window``), normalise the window (``standardize``). ``BreastWindow`` does all of them and gives the transform.

Source:
    The arithmetic of Wu et al., IEEE TMI 2020, in the form of GMIC's release.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from mammo_d2.data.breast.mask import breast_mask, chest_wall_side
from mammo_d2.data.breast.window_transform import WindowTransform

#: A component that is more of the image than this is no breast: the background is not black.
_WHOLE_IMAGE = 0.9

_VIEW_IN_NAME = re.compile(r"(?<![A-Za-z])([LR])?[-_ ]?(CC|MLO)(?![A-Za-z])", re.IGNORECASE)


@dataclass(frozen=True)
class BreastBox:
    """Where the breast is in an image that faces right (chest wall on the left).

    Attributes:
        crop: (x0, y0, width, height) with a margin above, below and on the nipple's side.
        rightmost: last column of the lower two thirds of the breast, in the crop.
        bottommost: last row of the breast, in the crop.
    """

    crop: tuple[int, int, int, int]
    rightmost: int
    bottommost: int


def breast_component(image: np.ndarray, erosion: int) -> np.ndarray:
    """Largest part of the non-zero pixels that survives an erosion, dilated again: markers and scanner lines go.

    Args:
        image: (H, W), background exactly 0.
        erosion: steps of erosion and dilation with a cross (4 neighbours); beyond the border is background.

    Returns:
        bool (H, W). Where the erosion leaves nothing, the largest component as it is; all True for a black image.
    """
    nonzero = (image > 0).astype(np.uint8)
    if not nonzero.any():
        return np.ones(image.shape, bool)
    # n steps with a cross reach every pixel up to n away in the city-block metric.
    framed = cv2.copyMakeBorder(nonzero, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = (cv2.distanceTransform(framed, cv2.DIST_L1, 3)[1:-1, 1:-1] > erosion).astype(np.uint8)
    if not eroded.any():
        return _largest_component(nonzero)
    component = _largest_component(eroded)
    return cv2.distanceTransform((~component).astype(np.uint8), cv2.DIST_L1, 3) <= erosion


def _largest_component(mask: np.ndarray) -> np.ndarray:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))


def find_breast(mask: np.ndarray, mirrored: bool, margin: int) -> BreastBox:
    """Crop and extreme points of a breast that faces right.

    Args:
        mask: bool (H, W) of the breast, facing right, not empty.
        mirrored: whether it faced left in the file. The published arithmetic puts its rightmost column one further.
        margin: pixels added above, below and on the right, as far as the image reaches.
    """
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x0, x1 = int(columns[0]), min(width, int(columns[-1]) + 1 + margin)
    y0, y1 = max(0, int(rows[0]) - margin), min(height, int(rows[-1]) + 1 + margin)
    tight = mask[rows[0] : rows[-1] + 1]
    lower = tight[len(tight) // 3 :]
    rightmost = int(np.flatnonzero(lower.any(axis=0))[-1]) - x0 + int(mirrored)
    return BreastBox((x0, y0, x1 - x0, y1 - y0), rightmost, int(rows[-1]) - y0)


def place_window(part: np.ndarray, box: BreastBox, view: str, size: tuple[int, int]) -> tuple[int, int]:
    """Where the crop goes in the window.

    Along an axis on which the crop is smaller it is padded: on the right, below, and of a CC view half above. Else the
    window lies around a centre (with the rightmost point near its right edge; CC: as much tissue as possible, nearest
    the middle; MLO: the lowest point near its lower edge) and is moved inside.

    Args:
        part: (h, w) the crop, facing right.
        box: of ``find_breast``.
        view: "CC" or "MLO"; others go like MLO if they contain "ML" or "LM", else like CC.
        size: (height, width) of the window.

    Returns:
        (x, y) of the crop's top left corner in the window.
    """
    is_mlo = "ML" in view.upper() or "LM" in view.upper()
    (height, width), (rows, columns) = size, part.shape
    left = min(max(box.rightmost - (width // 2 + 1) - width // 2, 0), max(columns - width, 0))
    if rows < height:
        return -left, 0 if is_mlo else (height - rows) // 2
    if is_mlo:
        used = np.flatnonzero(part[:, -width:].any(axis=1))
        lowest = min(int(used[-1]) if len(used) else rows - 1, box.bottommost)
        top = lowest - (height // 2 + 1) - height // 2
    else:
        inside = np.count_nonzero(part[:, left : left + width], axis=1).cumsum()
        tissue = inside[height - 1 :] - np.concatenate([[0], inside[: rows - height]])
        best = np.flatnonzero(tissue == tissue.max())
        top = int(best[np.argmin(np.abs(best + height // 2 - rows // 2))])
    return -left, -min(max(top, 0), rows - height)


def standardize(window: np.ndarray) -> np.ndarray:
    """Subtract the mean of all pixels and divide by their standard deviation (at least 1e-5); float32, a new array."""
    window = window.astype(np.float32)
    window -= np.mean(window)
    window /= np.maximum(np.std(window), 1e-5)
    return window


@dataclass(frozen=True)
class BreastWindow:
    """The whole preprocessing: (H, W) stored pixels to a standardised window that faces right.

    Nothing is scaled, so images should have the pixel spacing of the training images. The scale of the values does not
    matter.

    The published method takes every pixel above 0 as breast. Where that is nearly all of the image (a film's grey base,
    the noise of lossy compression), the breast is found by ``breast_mask`` and everything else is set to 0.

    Attributes:
        size: (height, width) of the window.
        erosion: see ``breast_component``.
        margin: see ``find_breast``.
        offset: (x, y) by which the content is moved in the window, in pixels; less where the breast would leave the
            window, or the window the breast.
    """

    size: tuple[int, int]
    erosion: int = 100
    margin: int = 50
    offset: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if min(self.size) < 1 or self.erosion < 0 or self.margin < 0:
            raise ValueError(
                f"INPUT.SIZE {list(self.size)} must be positive, INPUT.WINDOW.EROSION {self.erosion} and MARGIN "
                f"{self.margin} must not be negative"
            )

    def __call__(self, pixels: np.ndarray, facts: Mapping[str, Any]) -> tuple[np.ndarray, WindowTransform]:
        """
        Args:
            pixels: (H, W).
            facts: ``laterality``, ``view`` and ``file_name`` as far as they are known. The side of the chest wall is
                seen in the image; the laterality (a left breast faces right) counts only where both sides look alike.

        Returns:
            (h, w) float32 window, and its transform from the image.
        """
        laterality, view = _view_of(facts)
        mask = breast_component(pixels, self.erosion)
        if mask.mean() > _WHOLE_IMAGE:
            mask = breast_component(breast_mask(pixels).astype(np.uint8), self.erosion)
            pixels = np.where(mask, pixels, np.zeros_like(pixels))
        side = chest_wall_side(mask)
        flip = side == "right" if side is not None else laterality == "R"
        box = find_breast(mask[:, ::-1] if flip else mask, flip, self.margin)
        x0, y0, w, h = box.crop
        facing = pixels[:, ::-1] if flip else pixels
        shift = place_window(facing[y0 : y0 + h, x0 : x0 + w], box, view, self.size)
        if any(self.offset):
            shift = (
                _moved(shift[0], self.offset[0], self.size[1] - w),
                _moved(shift[1], self.offset[1], self.size[0] - h),
            )
        height, width = pixels.shape
        crop = (width - x0 - w, y0, w, h) if flip else box.crop
        transform = WindowTransform((height, width), crop, flip, shift, self.size)
        return standardize(transform.apply(pixels)), transform


def _moved(position: int, offset: int, room: int) -> int:
    """A crop's position in the window, moved: a smaller crop stays inside the window, a larger one covers it."""
    return min(max(position + offset, min(0, room)), max(0, room))


def view_in_name(file_name: str) -> tuple[str | None, str | None]:
    """Laterality and view from a file's name, such as "L" and "CC" of "0_L-CC.png"; None where it has none."""
    named = _VIEW_IN_NAME.search(re.split(r"[\\/]", file_name)[-1])
    if named is None:
        return None, None
    return named[1] and named[1].upper(), named[2].upper()


def _view_of(facts: Mapping[str, Any]) -> tuple[str, str]:
    """Laterality and view: as known, else from the file's name, else "" and "CC"."""
    laterality, view = view_in_name(str(facts.get("file_name") or ""))
    return str(facts.get("laterality") or laterality or "").upper(), str(facts.get("view") or view or "CC").upper()
