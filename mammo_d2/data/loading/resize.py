"""Resizing images: the size that fits, and an interpolation that loses no small bright spot."""

from collections.abc import Sequence

import cv2
import numpy as np


def fitted_size(image_size: Sequence[int], size: Sequence[int], enlarge: bool = True) -> tuple[int, int]:
    """Largest (height, width) of an image's aspect ratio that fits into ``size``, rounded, at least 1 pixel a side.

    Without ``enlarge``, an image that fits already stays as large as it is.
    """
    scale = min(size[0] / image_size[0], size[1] / image_size[1])
    if not enlarge:
        scale = min(scale, 1.0)
    height, width = (min(limit, max(1, round(side * scale))) for side, limit in zip(image_size, size, strict=True))
    return height, width


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Resize (h, w) to ``size`` (H, W): area averages where a side shrinks, bilinear where it grows.

    Averaging keeps what small bright calcifications contribute; sampling may miss them. Returns ``image`` itself if
    there is nothing to do.
    """
    height, width = size
    # OpenCV averages areas only if both sides shrink, so a side that grows waits for a second step.
    smaller = (min(height, image.shape[0]), min(width, image.shape[1]))
    if smaller != image.shape:
        image = cv2.resize(image, smaller[::-1], interpolation=cv2.INTER_AREA)
    if image.shape != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return image
