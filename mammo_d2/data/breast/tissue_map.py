"""Where breast and pectoral muscle are in a network image, as coarse maps that the model takes along with it."""

from __future__ import annotations

import cv2
import numpy as np

from mammo_d2.data.breast.mask import breast_mask
from mammo_d2.data.breast.pectoral import pectoral_edge

# The muscle does not show in these views.
_VIEWS_WITHOUT_MUSCLE = ("CC", "XCC", "FB")


def tissue_map(image: np.ndarray, cell: int, view: str | None = None) -> np.ndarray:
    """How much of each cell is breast (with the muscle), and how much is pectoral muscle.

    Args:
        image: (H, W), bright on dark.
        cell: side of the square cells in pixels; the last row and column may reach beyond the image, where nothing is.
        view: "CC", "MLO", ...; in views from above no muscle is looked for, None is treated like MLO.

    Returns:
        (2, ceil(H / cell), ceil(W / cell)) float32 in [0, 1].

    Raises:
        ValueError: a cell of less than one pixel.
    """
    if cell < 1:
        raise ValueError(f"INPUT.TISSUE_CELL must be at least one pixel, not {cell}")
    breast = breast_mask(image)
    edge = None if view and view.upper().startswith(_VIEWS_WITHOUT_MUSCLE) else pectoral_edge(image, breast)
    muscle = np.zeros_like(breast) if edge is None else edge.mask(image.shape) & breast
    return np.stack([_shares(breast, cell), _shares(muscle, cell)])


def _shares(mask: np.ndarray, cell: int) -> np.ndarray:
    height, width = mask.shape
    rows, columns = -(-height // cell), -(-width // cell)
    padded = np.zeros((rows * cell, columns * cell), np.float32)
    padded[:height, :width] = mask
    return cv2.resize(padded, (columns, rows), interpolation=cv2.INTER_AREA)
