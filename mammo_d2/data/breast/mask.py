"""Where the breast is in an image: mask, box, side of the chest wall.

Works on any prepared or source image with a bright breast on a dark, not necessarily zero, background; scanner strips,
labels and markers are other, smaller components and are dropped. Done on a reduced copy, so the cost does not grow with
the resolution.
"""

from __future__ import annotations

import cv2
import numpy as np

# Longer side of the reduced copy on which the mask is found, in pixels.
_WORKING_SIDE = 512
# Radius of the opening that cuts labels and tape off the breast, as a fraction of the working side.
_OPENING = 0.012
# The chest wall is a straight edge at the image's border: width of the strip looked at, of the breast's box.
_EDGE_STRIP = 0.04
# "auto" mask: position of the threshold between background and Otsu's; brightness (relative to Otsu's threshold) that
# tells dark fat from a film's base, and the part of the image that only a whole film covers. Set by looking at the
# masks of 122 digitised films and of digital images.
_LOW_THRESHOLD = 0.35
_FAT_BRIGHTNESS = 0.4
_WHOLE_FILM = 0.9


def breast_mask(image: np.ndarray, method: str = "auto") -> np.ndarray:
    """Mask of the breast with the pectoral muscle: threshold, opening, largest component, holes filled.

    Args:
        image: (H, W), any numeric type, bright on dark.
        method: the threshold. "auto": a third of the way from the background to Otsu's, which keeps the thin skin edge
            on a film's grey base, and everything above black where the background is digital zero; "otsu": two classes
            of grey, cuts into fatty tissue; "triangle": from the background's peak.

    Returns:
        bool (H, W). All True for an image without contrast.

    Raises:
        ValueError: not a two-dimensional image, or an unknown method.
    """
    if image.ndim != 2 or image.size == 0:
        raise ValueError(f"breast_mask needs an image (H, W), got shape {image.shape}")
    if method not in ("auto", "otsu", "triangle"):
        raise ValueError(f"breast mask method {method!r} must be one of auto, otsu, triangle")
    small = _reduced(image)
    if small.min() == small.max():
        return np.ones(image.shape, dtype=bool)
    if method == "triangle":
        mask = _component(small, cv2.threshold(small, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_TRIANGLE)[0])
    else:
        otsu = cv2.threshold(small, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)[0]
        mask = _component(small, otsu) if method == "otsu" else _auto_mask(small, otsu)
    height, width = image.shape
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)


def breast_box(mask: np.ndarray, margin: float = 0.0) -> tuple[int, int, int, int]:
    """Smallest box around a mask.

    Args:
        mask: bool (H, W).
        margin: added on each side, as a fraction of the box's longer side; clipped to the image.

    Returns:
        x, y, width, height in whole pixels; the whole image for an empty mask.
    """
    height, width = mask.shape
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return 0, 0, width, height
    x1, x2, y1, y2 = cols[0], cols[-1] + 1, rows[0], rows[-1] + 1
    extra = round(margin * max(x2 - x1, y2 - y1))
    x1, y1 = max(0, x1 - extra), max(0, y1 - extra)
    x2, y2 = min(width, x2 + extra), min(height, y2 + extra)
    return int(x1), int(y1), int(x2 - x1), int(y2 - y1)


def chest_wall_side(mask: np.ndarray) -> str | None:
    """The side of the image at which the breast is cut off by the chest wall.

    The chest wall is the long straight side of the mask: more of the rows reach into the outermost strip of the mask's
    box there than at the side of the nipple.

    Returns:
        "left", "right", or None when both sides look alike (no breast, whole image).
    """
    x, y, w, h = breast_box(mask)
    strip = max(1, round(_EDGE_STRIP * w))
    inside = mask[y : y + h, x : x + w]
    left, right = inside[:, :strip].any(axis=1).mean(), inside[:, -strip:].any(axis=1).mean()
    if abs(left - right) < 0.05:
        return None
    return "left" if left > right else "right"


def laterality_of_side(side: str | None) -> str | None:
    """Laterality by the usual hanging: a left breast has its chest wall on the image's left side.

    Files may be mirrored, so this checks a stated laterality and does not replace it.
    """
    return {"left": "L", "right": "R"}.get(side or "")


def _reduced(image: np.ndarray) -> np.ndarray:
    """8-bit copy of at most ``_WORKING_SIDE``; what is brighter than most of the breast is cut to one level."""
    scale = min(1.0, _WORKING_SIDE / max(image.shape))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    small = cv2.resize(image.astype(np.float32, copy=False), size, interpolation=cv2.INTER_AREA)
    # Bright labels and strips may fill a few per cent; the breast always fills more.
    low, high = np.percentile(small, (0.5, 95))
    if high <= low:
        low, high = float(small.min()), float(small.max())
    scaled = (small - low) / (high - low) if high > low else np.zeros_like(small)
    return cv2.GaussianBlur((scaled.clip(0, 1) * 255).round().astype(np.uint8), (5, 5), 0)


def _auto_mask(small: np.ndarray, otsu: float) -> np.ndarray:
    background = float(np.median(small[small <= otsu]))
    mask = _component(small, background + _LOW_THRESHOLD * (otsu - background))
    mask = _fill_to_chest_wall(mask)
    # With a digital background everything above black is breast, dark subcutaneous fat included. A film's grey base
    # would come in too: it is much darker than fat, or the mask becomes the whole film.
    wide = _fill_to_chest_wall(_component(small, float(small.min()) + 1))
    extra = wide & ~mask
    if extra.any() and wide.mean() < _WHOLE_FILM:
        brightness = (np.percentile(small[extra], 30) - small.min()) / max(otsu - small.min(), 1)
        if brightness > _FAT_BRIGHTNESS:
            return wide
    return mask


def _component(small: np.ndarray, threshold: float) -> np.ndarray:
    """Largest component above the threshold after opening, holes filled; all True if there is none."""
    radius = max(1, round(_OPENING * max(small.shape)))
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    # Beyond the border is taken to be like the border, so that the opening does not eat the chest wall.
    bright = (small > threshold).astype(np.uint8)
    opened = cv2.morphologyEx(bright, cv2.MORPH_OPEN, kernel, borderType=cv2.BORDER_REPLICATE)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(opened, connectivity=4)
    if count < 2:
        return np.ones(small.shape, dtype=bool)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    component = (labels == largest).astype(np.uint8)
    contours, _ = cv2.findContours(component, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(component, contours, -1, 1, cv2.FILLED)
    return component.astype(bool)


def _fill_to_chest_wall(mask: np.ndarray) -> np.ndarray:
    """Fill each row from the chest wall to its outermost pixel: dark fat at the chest wall is no hole."""
    side = chest_wall_side(mask)
    if side is None:
        return mask
    x, _, w, _ = breast_box(mask)
    inside = mask[:, x : x + w] if side == "left" else mask[:, x : x + w][:, ::-1]
    filled = np.maximum.accumulate(inside[:, ::-1], axis=1)[:, ::-1]
    out = np.zeros_like(mask)
    out[:, x : x + w] = filled if side == "left" else filled[:, ::-1]
    return out
