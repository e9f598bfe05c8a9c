"""Boxes and polygons from what data sets draw around lesions: outlines of pixels, and masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from mammo_d2.data.converters.converter import SourceAnnotation, SourceImage

Box = tuple[float, float, float, float]
# Largest relative difference between the ratios height / width of two images that show the same.
SHAPE_TOLERANCE = 0.02


def pixel_outline(points: Sequence[Sequence[float]]) -> tuple[Box, list[list[float]]]:
    """XYWH box and polygon around pixels that are given by their indices.

    The pixel (x, y) reaches from x to x + 1; the polygon goes through the centres of the pixels.

    Args:
        points: (x, y) of each, at least one.
    """
    array = np.asarray(points, dtype=np.float64).reshape(-1, 2)
    (left, top), (right, bottom) = array.min(axis=0), array.max(axis=0)
    polygons = [(array + 0.5).reshape(-1).tolist()] if len(array) >= 3 else []
    return (float(left), float(top), float(right - left + 1), float(bottom - top + 1)), polygons


def mask_outlines(mask: np.ndarray) -> list[tuple[Box, list[list[float]]]]:
    """XYWH box and polygons of each connected part (eight neighbours) of a mask, from top to bottom.

    Args:
        mask: (H, W), bool or 0 and something else.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats((mask > 0).astype(np.uint8), connectivity=8)
    parts: list[tuple[Box, list[list[float]]]] = []
    for number in range(1, count):
        x, y, w, h = (int(v) for v in stats[number, :4])
        part = (labels[y : y + h, x : x + w] == number).astype(np.uint8)
        contours, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        centre = np.array((x + 0.5, y + 0.5))
        polygons = [(c.reshape(-1, 2) + centre).reshape(-1).tolist() for c in contours if len(c) >= 3]
        parts.append(((float(x), float(y), float(w), float(h)), polygons))
    return sorted(parts, key=lambda part: (part[0][1], part[0][0]))


def same_shape(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have the same ratio but for rounding."""
    return abs((size[0] / size[1]) / (other[0] / other[1]) - 1) <= SHAPE_TOLERANCE


def fit_to_file(image: SourceImage, drawn_on: tuple[int, int], size: tuple[int, int]) -> SourceImage:
    """The image with its lesions, boxes and pixel spacing scaled to a file of another size.

    Args:
        image: lesions with boxes and polygons, in pixels of an image of the size ``drawn_on``.
        drawn_on: (height, width).
        size: (height, width) of the file.

    Raises:
        ValueError: the file has another shape.
    """
    if drawn_on == size:
        return image
    if not same_shape(drawn_on, size):
        raise ValueError(
            f"the file has {size[0]} x {size[1]} pixels (height x width), its lesions were drawn on {drawn_on[0]} x "
            f"{drawn_on[1]}; use the whole image, neither cropped nor squashed"
        )
    y, x = size[0] / drawn_on[0], size[1] / drawn_on[1]
    spacing = image.pixel_spacing
    return replace(
        image,
        annotations=tuple(_scaled(annotation, x, y) for annotation in image.annotations),
        boxes={key: [_scaled_box(box, x, y) for box in boxes] for key, boxes in image.boxes.items()},
        pixel_spacing=(spacing[0] / y, spacing[1] / x) if spacing else None,
    )


def _scaled(annotation: SourceAnnotation, x: float, y: float) -> SourceAnnotation:
    polygons: Any = annotation.segmentation
    if polygons is not None:
        polygons = [(np.asarray(p).reshape(-1, 2) * np.array((x, y))).reshape(-1).tolist() for p in polygons]
    left, top, width, height = _scaled_box(annotation.bbox or (), x, y)
    return replace(annotation, bbox=(left, top, width, height), segmentation=polygons)


def _scaled_box(box: Sequence[float], x: float, y: float) -> list[float]:
    left, top, width, height = box
    return [left * x, top * y, width * x, height * y]
