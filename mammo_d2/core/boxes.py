"""Boxes in pixels: XYWH and XYXY, clipping to an image.

Coordinates are continuous with the origin at the top left corner of the top left pixel: a box around pixels 10..19 is
[10, 20] in XYXY. XYWH is [left, top, width, height], XYXY is [left, top, right, bottom]. The framework's ``BoxMode``
converts lists in float32; everything here is float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# The values of ``BoxMode`` that annotations have as ``bbox_mode``, for modules that need no framework.
XYXY_ABS, XYWH_ABS = 0, 1


def xywh_to_xyxy(boxes: Any) -> np.ndarray:
    """Convert boxes (..., 4) from x, y, width, height to x1, y1, x2, y2; float64."""
    boxes = np.array(boxes, dtype=np.float64)
    boxes[..., 2:] += boxes[..., :2]
    return boxes


def xyxy_to_xywh(boxes: Any) -> np.ndarray:
    """Convert boxes (..., 4) from x1, y1, x2, y2 to x, y, width, height; float64."""
    boxes = np.array(boxes, dtype=np.float64)
    boxes[..., 2:] -= boxes[..., :2]
    return boxes


def boxes_of_annotations(annotations: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """XYXY boxes (n, 4) float64 of annotations with ``bbox`` and ``bbox_mode`` (XYWH_ABS where it is missing).

    Raises:
        ValueError: a ``bbox_mode`` that is neither XYXY_ABS nor XYWH_ABS.
    """
    boxes = np.array([annotation["bbox"] for annotation in annotations], np.float64).reshape(-1, 4)
    modes = np.array([int(annotation.get("bbox_mode", XYWH_ABS)) for annotation in annotations], int)
    if ((modes != XYXY_ABS) & (modes != XYWH_ABS)).any():
        raise ValueError(f"annotation with bbox_mode {modes.max()}: only XYXY_ABS (0) and XYWH_ABS (1) are known here")
    boxes[modes == XYWH_ABS] = xywh_to_xyxy(boxes[modes == XYWH_ABS])
    return boxes


def clip_boxes(boxes_xyxy: Any, size: tuple[int, int]) -> np.ndarray:
    """Clip XYXY boxes (..., 4) to an image of ``size`` (height, width); float64."""
    boxes = np.array(boxes_xyxy, dtype=np.float64)
    height, width = size
    boxes[..., 0::2] = boxes[..., 0::2].clip(0, width)
    boxes[..., 1::2] = boxes[..., 1::2].clip(0, height)
    return boxes


def clip_xywh(box: Sequence[float], size: tuple[int, int]) -> Sequence[float]:
    """The part of one XYWH box that lies in an image of ``size`` (height, width).

    Returns:
        ``box`` itself if it lies inside, otherwise a new list; its sides are zero or negative if no part is inside.
    """
    if overhang_xywh(box, size) == 0:
        return box
    x, y, w, h = box
    x1, y1 = max(x, 0.0), max(y, 0.0)
    return [x1, y1, min(x + w, size[1]) - x1, min(y + h, size[0]) - y1]


def overhang_xywh(box: Sequence[float], size: tuple[int, int]) -> float:
    """How many pixels one XYWH box sticks out of an image of ``size`` (height, width); 0 if it lies inside."""
    x, y, w, h = box
    return max(-x, -y, x + w - size[1], y + h - size[0], 0.0)
