"""The invertible geometry between a source image and its prepared copy: crop, horizontal flip, scale.

Coordinates are continuous with the origin at the top left corner of the top left pixel: pixel ``i`` covers
``[i, i + 1)``, so a box around pixels 10..19 is ``[10, 20]`` and a flip of a row of width ``w`` sends ``x`` to
``w - x``. Boxes are XYXY, points are XY, sizes are (height, width).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

# Sides beyond this are mistakes; the largest mammograms have some ten thousand pixels.
_MAX_SIDE = 2**31 - 1


@dataclass(frozen=True)
class ImageTransform:
    """How a prepared image came from its source: crop, then horizontal flip, then scale.

    Attributes:
        source_size: (height, width) of the source image in pixels.
        crop: (x0, y0, width, height) of the part that was kept, in whole source pixels.
        flip: whether the crop was mirrored left to right.
        scale: (sy, sx); prepared = scale * cropped.

    Raises:
        ValueError: a crop outside the source, an empty crop, a scale that is not positive and finite, or an image of
            2^31 pixels a side and more.
    """

    source_size: tuple[int, int]
    crop: tuple[int, int, int, int]
    flip: bool = False
    scale: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        height, width = self.source_size
        x0, y0, w, h = self.crop
        if height < 1 or width < 1:
            raise ValueError(f"transform: source_size {self.source_size} must be two positive numbers [height, width]")
        if w < 1 or h < 1 or x0 < 0 or y0 < 0 or x0 + w > width or y0 + h > height:
            raise ValueError(
                f"transform: crop {list(self.crop)} ([x0, y0, width, height]) does not lie within the source of "
                f"height {height} and width {width}"
            )
        if not all(np.isfinite(s) and s > 0 for s in self.scale):
            raise ValueError(f"transform: scale {list(self.scale)} ([sy, sx]) must be positive and finite")
        if max(height, width) > _MAX_SIDE or max(h * self.scale[0], w * self.scale[1]) > _MAX_SIDE:
            raise ValueError(
                f"transform: source_size {list(self.source_size)} with scale {list(self.scale)} gives an image of more "
                f"than {_MAX_SIDE} pixels a side"
            )

    # --- making -------------------------------------------------------------------------------------------------
    @classmethod
    def identity(cls, size: tuple[int, int]) -> ImageTransform:
        """The transform of an image of ``size`` (height, width) that was left as it is."""
        height, width = (int(s) for s in size)
        return cls((height, width), (0, 0, width, height))

    @classmethod
    def from_dict(cls, value: Mapping[str, Any] | None, size: tuple[int, int] | None = None) -> ImageTransform:
        """Read the ``transform`` of a COCO image.

        Args:
            value: {"source_size": [H, W], "crop": [x0, y0, w, h], "flip": bool, "scale": [sy, sx]}, where all but
                the first may be missing; None means identity.
            size: (height, width) of the prepared image; needed when ``value`` is None.

        Raises:
            ValueError: a field that is missing, of a wrong type or out of range (named in the message).
        """
        if value is None:
            if size is None:
                raise ValueError("transform: an image without transform needs its size to give the identity")
            return cls.identity(size)
        if not isinstance(value, Mapping):
            raise ValueError(f"transform: {value!r} must be an object with source_size, crop, flip, scale")
        unknown = set(value) - {"source_size", "crop", "flip", "scale"}
        if unknown:
            raise ValueError(
                f"transform: unknown field {sorted(unknown)[0]!r}; allowed: source_size, crop, flip, scale"
            )
        height, width = _numbers(value, "source_size", 2, whole=True)
        crop = _numbers(value, "crop", 4, whole=True, default=[0, 0, width, height])
        scale = _numbers(value, "scale", 2, default=[1.0, 1.0])
        flip = value.get("flip", False)
        if not isinstance(flip, bool):
            raise ValueError(f"transform: flip {flip!r} must be true or false")
        return cls(
            (int(height), int(width)),
            (int(crop[0]), int(crop[1]), int(crop[2]), int(crop[3])),
            flip,
            (float(scale[0]), float(scale[1])),
        )

    def with_output_size(self, size: tuple[int, int]) -> ImageTransform:
        """The same crop and flip, scaled so that the prepared image has exactly ``size`` (height, width)."""
        _, _, w, h = self.crop
        return ImageTransform(self.source_size, self.crop, self.flip, (size[0] / h, size[1] / w))

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that ``from_dict`` reads."""
        return {
            "source_size": list(self.source_size),
            "crop": list(self.crop),
            "flip": self.flip,
            "scale": list(self.scale),
        }

    # --- facts --------------------------------------------------------------------------------------------------
    @property
    def prepared_size(self) -> tuple[int, int]:
        """(height, width) of the prepared image."""
        _, _, w, h = self.crop
        return max(1, round(h * self.scale[0])), max(1, round(w * self.scale[1]))

    @property
    def is_identity(self) -> bool:
        """Whether the prepared image has the source's pixels, unmoved."""
        height, width = self.source_size
        return self.crop == (0, 0, width, height) and not self.flip and self.scale == (1.0, 1.0)

    # --- points and boxes ---------------------------------------------------------------------------------------
    def points_to_prepared(self, points_xy: Any) -> np.ndarray:
        """Map points (..., 2) from source to prepared pixels; float64, not clipped."""
        points = np.array(points_xy, dtype=np.float64)
        x0, y0, w, _ = self.crop
        points[..., 0] -= x0
        points[..., 1] -= y0
        if self.flip:
            points[..., 0] = w - points[..., 0]
        points[..., 0] *= self.scale[1]
        points[..., 1] *= self.scale[0]
        return points

    def points_to_source(self, points_xy: Any) -> np.ndarray:
        """Map points (..., 2) from prepared to source pixels; float64, not clipped."""
        points = np.array(points_xy, dtype=np.float64)
        x0, y0, w, _ = self.crop
        points[..., 0] /= self.scale[1]
        points[..., 1] /= self.scale[0]
        if self.flip:
            points[..., 0] = w - points[..., 0]
        points[..., 0] += x0
        points[..., 1] += y0
        return points

    def boxes_to_prepared(self, boxes_xyxy: Any) -> np.ndarray:
        """Map XYXY boxes (..., 4) from source to prepared pixels; float64, not clipped."""
        return self._map_boxes(boxes_xyxy, self.points_to_prepared)

    def boxes_to_source(self, boxes_xyxy: Any) -> np.ndarray:
        """Map XYXY boxes (..., 4) from prepared to source pixels; float64, not clipped."""
        return self._map_boxes(boxes_xyxy, self.points_to_source)

    def _map_boxes(self, boxes_xyxy: Any, map_points: Any) -> np.ndarray:
        boxes = np.array(boxes_xyxy, dtype=np.float64)
        if boxes.size == 0:
            return boxes.reshape(*boxes.shape[:-1], 4) if boxes.ndim > 1 else np.zeros((0, 4))
        corners = map_points(boxes.reshape(*boxes.shape[:-1], 2, 2))
        # A flip exchanges left and right.
        low, high = corners.min(axis=-2), corners.max(axis=-2)
        return np.concatenate([low, high], axis=-1)

    # --- arrays -------------------------------------------------------------------------------------------------
    def crop_and_flip(self, image: np.ndarray) -> np.ndarray:
        """Cut the crop out of a source image (..., H, W) and mirror it; a view, before any scaling.

        Raises:
            ValueError: the image is not of ``source_size``.
        """
        if tuple(image.shape[-2:]) != self.source_size:
            raise ValueError(
                f"transform: image of height {image.shape[-2]} and width {image.shape[-1]} does not fit "
                f"source_size {list(self.source_size)}"
            )
        x0, y0, w, h = self.crop
        part = image[..., y0 : y0 + h, x0 : x0 + w]
        return part[..., ::-1] if self.flip else part

    def map_to_source(self, array: np.ndarray, *, fill: float = 0.0, nearest: bool = False) -> np.ndarray:
        """Bring a map of the prepared image (a saliency map, a mask) back to the source's pixels.

        Args:
            array: (..., h, w) covering the prepared image; any resolution, it is stretched over it.
            fill: value outside the crop.
            nearest: take the nearest cell (label maps, masks) rather than interpolate linearly.

        Returns:
            (..., H, W) of ``source_size``; the input's type with ``nearest``, otherwise float.
        """
        _, _, crop_w, crop_h = self.crop
        rows, row_weight = _sample_positions(array.shape[-2], crop_h)
        cols, col_weight = _sample_positions(array.shape[-1], crop_w)
        if nearest:
            row_index = rows[0] + (row_weight >= 0.5) * (rows[1] - rows[0])
            col_index = cols[0] + (col_weight >= 0.5) * (cols[1] - cols[0])
            part = array[..., row_index, :][..., col_index]
        else:
            values = array.astype(np.result_type(array.dtype, np.float32), copy=False)
            row_weight = row_weight.astype(values.dtype)[:, None]
            col_weight = col_weight.astype(values.dtype)
            part = values[..., rows[0], :] * (1 - row_weight) + values[..., rows[1], :] * row_weight
            part = part[..., cols[0]] * (1 - col_weight) + part[..., cols[1]] * col_weight
        if self.flip:
            part = part[..., ::-1]
        out = np.full((*array.shape[:-2], *self.source_size), fill, dtype=part.dtype)
        x0, y0, w, h = self.crop
        out[..., y0 : y0 + h, x0 : x0 + w] = part
        return out


def _sample_positions(cells: int, pixels: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """For each of ``pixels`` centres: the two neighbouring cells of ``cells`` and the weight of the second."""
    position = ((np.arange(pixels) + 0.5) * cells / pixels - 0.5).clip(0, cells - 1)
    low = np.floor(position).astype(np.int64)
    high = np.minimum(low + 1, cells - 1)
    return (low, high), position - low


def _numbers(
    value: Mapping[str, Any], field: str, length: int, *, whole: bool = False, default: list[Any] | None = None
) -> list[Any]:
    numbers = value.get(field, default)
    kind = int if whole else (int, float)
    if (
        not isinstance(numbers, (list, tuple))
        or len(numbers) != length
        or not all(isinstance(n, kind) and not isinstance(n, bool) for n in numbers)
        or any(isinstance(n, int) and abs(n) > _MAX_SIDE for n in numbers)
    ):
        what = "whole numbers" if whole else "numbers"
        raise ValueError(f"transform: {field} {numbers!r} must be a list of {length} {what}")
    return list(numbers)
