"""Affine maps of images and boxes.

Coordinates are continuous: pixel (row i, column j) covers [j, j+1] × [i, i+1], its centre is (j + 0.5, i + 0.5), the
image is [0, W] × [0, H]. Matrices are (2, 3) and act on (x, y, 1): input image -> output image, both of one size.
Boxes are (N, 4) XYXY.
"""

from collections.abc import Sequence

import cv2
import numpy as np


def affine_matrix(
    height: int,
    width: int,
    flip_horizontal: bool = False,
    flip_vertical: bool = False,
    shift: Sequence[float] = (0.0, 0.0),
    rotation: float = 0.0,
    scale: float = 1.0,
) -> np.ndarray:
    """Flip, then rotate and scale, all about the image centre, then shift.

    Args:
        height, width: image size in pixels.
        flip_horizontal, flip_vertical: mirror left-right, top-bottom.
        shift: (x, y) as fractions of width and height, to the right and down.
        rotation: degrees, counter-clockwise as seen on the screen.
        scale: factor, above 1 enlarges.

    Returns:
        (2, 3) float64.
    """
    angle = np.deg2rad(rotation)
    cos, sin = np.cos(angle) * scale, np.sin(angle) * scale
    # The y axis points down, so this is counter-clockwise on the screen.
    linear = np.array([[cos, sin], [-sin, cos]]) @ np.diag(
        [-1.0 if flip_horizontal else 1.0, -1.0 if flip_vertical else 1.0]
    )
    centre = np.array([width / 2.0, height / 2.0])
    offset = centre - linear @ centre + np.array([shift[0] * width, shift[1] * height])
    return np.column_stack([linear, offset])


def warp_image(image: np.ndarray, matrix: np.ndarray, fill: float = 0.0) -> np.ndarray:
    """Apply an affine matrix to pixels: bilinear, ``fill`` outside the input. Always a new array of the same size."""
    if np.array_equal(matrix, np.eye(2, 3)):
        return image.copy()
    # OpenCV's coordinates put pixel centres on integers: shift by half a pixel on both sides.
    centred = np.array(matrix, dtype=np.float64)
    centred[:, 2] += centred[:, :2].sum(axis=1) * 0.5 - 0.5
    height, width = image.shape
    return cv2.warpAffine(
        image, centred, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=fill
    )


def warp_cells(layers: np.ndarray, cell: int, matrix: np.ndarray) -> np.ndarray:
    """Move coarse maps of an image, such as its tissue map, as an affine matrix of its pixels moves the image.

    Args:
        layers: (C, h, w) maps with square cells.
        cell: side of a cell in pixels.
        matrix: (2, 3) in pixels of the image.

    Returns:
        (C, h, w).
    """
    in_cells = matrix.copy()
    in_cells[:, 2] /= cell
    return np.stack([warp_image(layer, in_cells) for layer in layers])


def transform_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Boxes of the lesions after an affine map: (N, 4) XYXY, not clipped.

    A box is taken for the bounding box of the ellipse inscribed in it, and the result is the exact bounding box of the
    mapped ellipse. For flips, shifts, scaling and quarter turns this equals the hull of the four mapped corners. For
    other rotations that hull would be too large (by up to a factor of 2 in area, at 45 degrees): a lesion is round
    rather than rectangular and does not reach into the corners of its box.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    linear, offset = matrix[:, :2], matrix[:, 2]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2.0 @ linear.T + offset
    semi_axes = (boxes[:, 2:] - boxes[:, :2]) / 2.0
    # Largest extent of {linear @ (semi_axes * u) : |u| <= 1} along each axis.
    extents = np.sqrt(semi_axes**2 @ (linear**2).T)
    return np.hstack([centres - extents, centres + extents])


def visible_boxes(
    boxes: np.ndarray, height: int, width: int, min_visible: float, hole: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to the image and drop those of which too little is left.

    Args:
        boxes: (N, 4) XYXY.
        height, width: image size.
        min_visible: smallest part of the box's area that must lie inside the image and outside ``hole``.
        hole: XYXY of a square without pixels, or None. A box is not made smaller by it.

    Returns:
        The clipped boxes that are left, (M, 4), and their (M,) indices. Boxes without area are never left.
    """
    area = _areas(boxes)
    clipped = boxes.clip(0.0, [width, height, width, height])
    visible = _areas(clipped)
    if hole is not None:
        covered = np.hstack([np.maximum(clipped[:, :2], hole[:2]), np.minimum(clipped[:, 2:], hole[2:])])
        visible = visible - _areas(covered)
    kept = np.flatnonzero((visible > 0.0) & (visible >= min_visible * area))
    return clipped[kept], kept


def _areas(boxes: np.ndarray) -> np.ndarray:
    """Areas of (N, 4) XYXY boxes; 0 where a side is negative."""
    return np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0), axis=1)
