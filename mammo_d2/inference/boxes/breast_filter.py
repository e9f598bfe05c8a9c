"""Boxes beside the breast, on film labels, markers and scanner strips, are left out."""

from __future__ import annotations

import cv2
import numpy as np

from mammo_d2.data.breast.mask import breast_mask

#: Longer side of the masks, in pixels; that on which ``breast_mask`` works.
MASK_SIDE = 512
#: A box is kept if at least this part of its area is breast. Of the 1,304 masses on 1,225 films of CBIS-DDSM none has
#: less, and two less than 0.5 (``benchmarks/breast_boxes.py``).
MIN_SHARE = 0.25
# Part of the image below which what was found is taken for no breast.
_SMALLEST_BREAST = 0.03


def reduced_breast_mask(pixels: np.ndarray, method: str = "auto") -> np.ndarray | None:
    """Where the breast is, on a reduced copy.

    Args:
        pixels: (H, W), any numeric type, bright on dark.
        method: of ``breast_mask``.

    Returns:
        bool (h, w), the longer side at most ``MASK_SIDE``; None where no breast is seen: no contrast, or a mask that is
        the whole image or next to nothing.
    """
    height, width = pixels.shape
    scale = min(1.0, MASK_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    mask = breast_mask(cv2.resize(pixels.astype(np.float32, copy=False), size, interpolation=cv2.INTER_AREA), method)
    return mask if _SMALLEST_BREAST <= mask.mean() < 1 else None


def breast_share(boxes: np.ndarray, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The part of each box that is breast.

    Args:
        boxes: (N, 4) XYXY in pixels of an image.
        mask: bool (h, w), of the same image reduced.
        size: (height, width) of the image.

    Returns:
        (N,) float64 in [0, 1]. A box is taken to cover whole pixels of the mask, at least one.
    """
    height, width = mask.shape
    scale = np.array([width / size[1], height / size[0]] * 2)
    low = np.floor(boxes[:, :2] * scale[:2]).astype(int).clip(0, [width - 1, height - 1])
    high = np.ceil(boxes[:, 2:] * scale[2:]).astype(int).clip(low + 1, [width, height])
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    (x1, y1), (x2, y2) = low.T, high.T
    inside = sums[y2, x2] - sums[y1, x2] - sums[y2, x1] + sums[y1, x1]
    return inside / ((x2 - x1) * (y2 - y1))


def in_breast(boxes: np.ndarray, mask: np.ndarray | None, size: tuple[int, int]) -> np.ndarray:
    """Which boxes are kept, bool (N,): all without a mask, else those with a share of ``MIN_SHARE``."""
    if mask is None or not len(boxes):
        return np.ones(len(boxes), bool)
    return breast_share(boxes, mask, size) >= MIN_SHARE
