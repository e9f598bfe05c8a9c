"""How well a saliency map agrees with a finding: continuous precision, recall and F1, and the pointing game.

Naming: ``A`` (h, w) the saliency map with values >= 0, one cell per patch of pixels; ``M`` the finding's mask on the
image of ``H`` × ``W`` pixels. The map is meant to be upsampled to the image by nearest neighbour: pixel row ``i`` shows
map row ``floor(i h / H)``. No upsampled map is made: every sum over pixels is a sum over cells, weighted by the pixels
(of the mask) that show the cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class CellAreas:
    """Pixels that show each cell: ``mask`` (h, w) those of the finding, ``whole`` (h, w) those of the image."""

    mask: np.ndarray
    whole: np.ndarray


def _cells(size: int, count: int) -> np.ndarray:
    """(size,) the cell that each pixel shows."""
    return np.arange(size) * count // size


def _edges(size: int, count: int) -> np.ndarray:
    """(count + 1,) first pixel of each cell, and the size."""
    return -(-np.arange(count + 1) * size // count)


def areas_of_mask(mask: np.ndarray, grid: tuple[int, int]) -> CellAreas:
    """Cell areas of a mask (H, W) for a map of ``grid`` = (h, w) cells."""
    height, width = mask.shape
    rows, columns = _cells(height, grid[0]), _cells(width, grid[1])
    whole = np.outer(np.bincount(rows, minlength=grid[0]), np.bincount(columns, minlength=grid[1])).astype(float)
    i, j = np.nonzero(mask)
    inside = np.bincount(rows[i] * grid[1] + columns[j], minlength=grid[0] * grid[1]).astype(float)
    return CellAreas(inside.reshape(grid), whole)


def areas_of_boxes(boxes: np.ndarray, size: tuple[int, int], grid: tuple[int, int]) -> CellAreas:
    """Cell areas of the union of boxes (n, 4) XYXY, cut at the image of ``size`` = (H, W); no mask is drawn.

    Box borders need not lie on pixels: areas are those of the boxes themselves.
    """
    lines = []
    for axis, (length, count) in enumerate(zip(size, grid, strict=True)):
        low, high = np.clip(boxes[:, 1 - axis], 0, length), np.clip(boxes[:, 3 - axis], 0, length)
        cell_edges = _edges(length, count).astype(float)
        cuts = np.unique(np.concatenate([cell_edges, low, high]))
        middle = (cuts[1:] + cuts[:-1]) / 2
        cell = np.searchsorted(cell_edges, middle, side="right") - 1
        within = (middle[:, None] > low) & (middle[:, None] < high)
        lines.append((np.diff(cuts), cell, within, np.diff(cell_edges)))
    (dy, row, in_y, tall), (dx, column, in_x, wide) = lines
    covered = (in_y.astype(float) @ in_x.T.astype(float)) > 0
    areas = np.where(covered, np.outer(dy, dx), 0.0)
    cell = row[:, None] * grid[1] + column[None]
    inside = np.bincount(cell.ravel(), weights=areas.ravel(), minlength=grid[0] * grid[1])
    return CellAreas(inside.reshape(grid), np.outer(tall, wide))


@dataclass(frozen=True)
class SaliencySums:
    """Of one image and class: ``hit`` = sum of A over the mask, ``claimed`` = sum of A, ``area`` = |M|, in pixels."""

    hit: float
    claimed: float
    area: float

    @property
    def precision(self) -> float:
        """``sum_M A / sum A``; NaN if the map is 0 everywhere (the "energy-based pointing game" is the same ratio)."""
        return self.hit / self.claimed if self.claimed > 0 else float("nan")

    @property
    def recall(self) -> float:
        """``sum_M A / |M|``; NaN if the mask is empty."""
        return self.hit / self.area if self.area > 0 else float("nan")

    @property
    def f1(self) -> float:
        """``2 P R / (P + R) = 2 sum_M A / (sum A + |M|)``, the soft Dice coefficient: 0, not undefined, for a map of 0;
        NaN if the mask is empty."""
        return 2 * self.hit / (self.claimed + self.area) if self.area > 0 else float("nan")


def continuous_sums(saliency: np.ndarray, areas: CellAreas) -> SaliencySums:
    """The sums behind continuous precision, recall and F1 (GMIC, Shen et al. 2021).

    They differ from the Dice of a thresholded map (GMIC's journal version, "DSC") and from pixel average precision
    ("PxAP"), which depend on the ranking of pixels alone.

    Raises:
        ValueError: the map has a negative or non-finite value, or another size than the areas.
    """
    if saliency.shape != areas.mask.shape:
        raise ValueError(f"saliency map of {saliency.shape} cells and areas of {areas.mask.shape} cells")
    if not (np.isfinite(saliency).all() and (saliency >= 0).all()):
        raise ValueError("the saliency map has negative or non-finite values; expected values in [0, 1]")
    return SaliencySums(
        float((saliency * areas.mask).sum()), float((saliency * areas.whole).sum()), float(areas.mask.sum())
    )


@dataclass(frozen=True)
class SaliencySummary:
    """Precision, recall and F1 over images, and how many images each is over."""

    precision: float
    recall: float
    f1: float
    images: int
    images_without_saliency: int


def summarize_saliency(sums: Sequence[SaliencySums], how: str = "macro") -> SaliencySummary:
    """Average over the images that have a mask; images without one must not be among ``sums``.

    "macro" (GMIC): the mean over images of each image's P, R and F1; an image whose map is 0 everywhere has no
    precision and is left out of that mean alone. "pooled": P, R and F1 of the sums over all images, so that large
    findings weigh more. The F1 of "macro" is not the harmonic mean of its P and R.
    """
    sums = [s for s in sums if s.area > 0]
    dark = sum(s.claimed <= 0 for s in sums)
    if not sums:
        nan = float("nan")
        return SaliencySummary(nan, nan, nan, 0, 0)
    if how == "pooled":
        total = SaliencySums(sum(s.hit for s in sums), sum(s.claimed for s in sums), sum(s.area for s in sums))
        return SaliencySummary(total.precision, total.recall, total.f1, len(sums), dark)
    if how != "macro":
        raise ValueError(f"averaging {how!r} is neither macro nor pooled")
    precisions = [s.precision for s in sums if s.claimed > 0]
    return SaliencySummary(
        float(np.mean(precisions)) if precisions else float("nan"),
        float(np.mean([s.recall for s in sums])),
        float(np.mean([s.f1 for s in sums])),
        len(sums),
        dark,
    )


def pointing_game(saliency: np.ndarray, boxes: np.ndarray, size: tuple[int, int], tolerance: float = 0.0) -> float:
    """Whether the map's maximum points at a finding (Zhang et al. 2018: a hit within 15 pixels; here 0 by default).

    The point is the centre of the maximal cell; of several maximal cells each counts its share, so that an all-equal
    map scores the part of cells that point right instead of depending on which comes first.

    Args:
        saliency: (h, w).
        boxes: (n, 4) XYXY of the findings in the image's pixels.
        size: (H, W) of the image.
        tolerance: largest distance in pixels from the point to a box.

    Returns:
        a number in [0, 1]; NaN if there is no box.
    """
    if not len(boxes):
        return float("nan")
    rows, columns = np.nonzero(saliency == saliency.max())
    y_edges, x_edges = _edges(size[0], saliency.shape[0]), _edges(size[1], saliency.shape[1])
    y, x = (y_edges[rows] + y_edges[rows + 1]) / 2, (x_edges[columns] + x_edges[columns + 1]) / 2
    dx = np.maximum(np.maximum(boxes[:, 0] - x[:, None], x[:, None] - boxes[:, 2]), 0)
    dy = np.maximum(np.maximum(boxes[:, 1] - y[:, None], y[:, None] - boxes[:, 3]), 0)
    return float((np.hypot(dx, dy) <= tolerance).any(axis=1).mean())
