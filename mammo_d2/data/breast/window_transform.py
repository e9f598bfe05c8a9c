"""The geometry of a network input that is a window on the breast: crop, mirror, place on a canvas.

Coordinates as in ``image_transform.py``: continuous, pixel ``i`` covers ``[i, i + 1)``; boxes XYXY; sizes (h, w).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class WindowTransform:
    """How a window came from an image: crop, then mirror, then shift on a canvas of another size.

    Unlike an ``ImageTransform`` the window may reach beyond the crop (it is filled there) and cut off a part of it.

    Attributes:
        source_size: (height, width) of the image.
        crop: (x0, y0, width, height) in the image's pixels.
        flip: whether the crop was mirrored left to right.
        shift: (x, y) of the crop's top left corner, after mirroring, in the window; may be negative.
        size: (height, width) of the window.
    """

    source_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool
    shift: tuple[int, int]
    size: tuple[int, int]

    def apply(self, image: np.ndarray, fill: float = 0.0) -> np.ndarray:
        """Cut the window out of an image (H, W); a new array (h, w) of the image's type.

        Raises:
            ValueError: the image is not of ``source_size``.
        """
        if image.shape != self.source_size:
            raise ValueError(f"window: image of shape {image.shape} does not fit source_size {self.source_size}")
        x0, y0, w, h = self.crop
        part = image[y0 : y0 + h, x0 : x0 + w]
        if self.flip:
            part = part[:, ::-1]
        window = np.full(self.size, fill, image.dtype)
        (top, bottom), (left, right) = self._overlap()
        shift_x, shift_y = self.shift
        window[top:bottom, left:right] = part[top - shift_y : bottom - shift_y, left - shift_x : right - shift_x]
        return window

    def _overlap(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows and columns of the window that show the crop."""
        _, _, w, h = self.crop
        shift_x, shift_y = self.shift
        return (
            (max(0, shift_y), max(0, min(self.size[0], shift_y + h))),
            (max(0, shift_x), max(0, min(self.size[1], shift_x + w))),
        )

    def boxes_to_prepared(self, boxes_xyxy: Any) -> np.ndarray:
        """Boxes (n, 4) of the image in pixels of the window; float64, not clipped."""
        boxes = np.array(boxes_xyxy, np.float64).reshape(-1, 4)
        x0, y0, w, _ = self.crop
        boxes -= [x0, y0, x0, y0]
        if self.flip:
            boxes[:, [0, 2]] = w - boxes[:, [2, 0]]
        boxes += [*self.shift, *self.shift]
        return boxes

    def boxes_to_source(self, boxes_xyxy: Any) -> np.ndarray:
        """Boxes (n, 4) of the window in pixels of the image; float64, not clipped."""
        boxes = np.array(boxes_xyxy, np.float64).reshape(-1, 4) - [*self.shift, *self.shift]
        x0, y0, w, _ = self.crop
        if self.flip:
            boxes[:, [0, 2]] = w - boxes[:, [2, 0]]
        boxes += [x0, y0, x0, y0]
        return boxes

    def map_to_source(self, array: np.ndarray, *, spacing: int = 8, fill: float = 0.0) -> np.ndarray:
        """Bring a map of the window (a saliency map) to the image.

        Args:
            array: (..., h, w) covering the window; any resolution.
            spacing: pixels of the image per cell of the result, which takes the nearest cell of ``array``; 1 is exact.
            fill: value where the window does not show the image.

        Returns:
            (..., ceil(H / spacing), ceil(W / spacing)) covering the image, of the input's type.
        """
        x0, y0, w, _ = self.crop
        y, x = (
            (np.arange(count) + 0.5) * pixels / count
            for pixels in self.source_size
            for count in [-(-pixels // spacing)]
        )
        x = (w - (x - x0) if self.flip else x - x0) + self.shift[0]
        y = y - y0 + self.shift[1]
        (top, bottom), (left, right) = self._overlap()
        shown = ((y >= top) & (y < bottom))[:, None] & (x >= left) & (x < right)
        column = (x * array.shape[-1] / self.size[1]).astype(np.int64).clip(0, array.shape[-1] - 1)
        row = (y * array.shape[-2] / self.size[0]).astype(np.int64).clip(0, array.shape[-2] - 1)
        return np.where(shown, array[..., row, :][..., column], np.asarray(fill, array.dtype))
