"""Regions drawn with the VGG Image Annotator (VIA), as its CSV export has them: boxes and polygons in image pixels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.source_outlines import Box, pixel_outline

_CORNERS = 32


def via_region(shape: str, where: str) -> tuple[Box, list[list[float]]] | None:
    """XYWH box and polygons of a region; None if it has no area (a point, a line of two points).

    Polygons and lines of three and more points are closed; circles and ellipses become polygons of 32 corners.

    Args:
        shape: the column ``region_shape_attributes``, a JSON object.
        where: file and line, for the message.

    Raises:
        ConverterError: no such object, or a shape that VIA does not draw.
    """
    try:
        attributes = json.loads(shape)
        return _region(attributes)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ConverterError(
            f"{where}: region_shape_attributes {shape!r:.80} is no shape of the VGG Image Annotator ({error}); export "
            "the regions again"
        ) from error


def _region(attributes: Mapping[str, Any]) -> tuple[Box, list[list[float]]] | None:
    name = attributes["name"]
    if name in ("polygon", "polyline"):
        points = list(zip(attributes["all_points_x"], attributes["all_points_y"], strict=True))
        return pixel_outline(_finite(points)) if len(points) >= 3 else None
    if name == "rect":
        x, y, width, height = _finite([[attributes[key] for key in ("x", "y", "width", "height")]])[0]
        return ((x, y, width, height), []) if width > 0 and height > 0 else None
    if name == "point":
        return None
    if name not in ("circle", "ellipse"):
        raise ValueError(f"unknown shape {name!r:.40}")
    radii = ("r", "r") if name == "circle" else ("rx", "ry")
    cx, cy, rx, ry = _finite([[attributes[key] for key in ("cx", "cy", *radii)]])[0]
    angle = float(attributes.get("theta") or 0)
    if min(rx, ry) <= 0:
        return None
    t = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    across = rx * np.cos(t) * math.cos(angle) - ry * np.sin(t) * math.sin(angle)
    down = rx * np.cos(t) * math.sin(angle) + ry * np.sin(t) * math.cos(angle)
    half_width = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
    half_height = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
    box = (cx + 0.5 - half_width, cy + 0.5 - half_height, 2 * half_width, 2 * half_height)
    return box, [np.stack([cx + 0.5 + across, cy + 0.5 + down], axis=1).reshape(-1).round(3).tolist()]


def _finite(points: Any) -> list[list[float]]:
    numbers = [[float(v) for v in point] for point in points]
    if not np.isfinite(numbers).all():
        raise ValueError("coordinates must be finite numbers")
    return numbers
