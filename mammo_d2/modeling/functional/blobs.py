"""Where the breast is in an image, and spots in it that are brighter than their surroundings (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

# Part of the brightest pixel below which a pixel is background.
_BACKGROUND = 0.05
# Surroundings of a spot: a Gaussian of this many times its sigma.
_SURROUND = 2.0


def tissue_mask(image: np.ndarray) -> np.ndarray:
    """(H, W) bool: the largest connected part brighter than 5 % of the brightest pixel; all of a dark image.

    Args:
        image: (H, W), background about 0.
    """
    peak = float(image.max(initial=0.0))
    parts, count = ndimage.label(image > _BACKGROUND * peak)
    if peak <= 0 or not count:
        return np.ones(image.shape, bool)
    return parts == 1 + np.argmax(np.bincount(parts.ravel())[1:])


def bright_blobs(
    image: np.ndarray, sigmas: Sequence[float], count: int, full_scale: float = 255.0
) -> tuple[np.ndarray, np.ndarray]:
    """Spots of tissue by their contrast: a Gaussian mean minus that of wider surroundings, both over tissue alone.

    A disc of radius r has the highest contrast at about ``sigma = r / 2``; its box has sides of ``4 sigma``. Of spots
    at almost the same place the one of the highest contrast is kept: no centre of a box lies in a better one.

    Args:
        image: (H, W), background about 0.
        sigmas: of the spots, in pixels.
        count: most spots.
        full_scale: contrast that is 1.

    Returns:
        Boxes (n, 4) XYXY, clipped to the image, by falling contrast, and their contrasts (n,) in (0, 1].
    """
    image = np.asarray(image, np.float64)
    mask = tissue_mask(image)
    weight = mask.astype(np.float64)
    found: list[tuple[float, float, float, float]] = []
    for sigma in sigmas:
        contrast = np.where(mask, _mean(image, weight, sigma) - _mean(image, weight, _SURROUND * sigma), -np.inf)
        size = 2 * max(1, round(sigma)) + 1
        peaks = (contrast == ndimage.maximum_filter(contrast, size)) & (contrast > 0)
        rows, columns = np.nonzero(peaks)
        best = np.argsort(-contrast[rows, columns], kind="stable")[: 4 * count]
        found += [(float(contrast[r, c]), r + 0.5, c + 0.5, 2 * sigma) for r, c in zip(rows[best], columns[best])]  # noqa: B905
    boxes: list[list[float]] = []
    scores: list[float] = []
    for score, y, x, half in sorted(found, reverse=True):
        if len(boxes) == count:
            break
        if any(x1 <= x <= x2 and y1 <= y <= y2 for x1, y1, x2, y2 in boxes):
            continue
        boxes.append([x - half, y - half, x + half, y + half])
        scores.append(min(score / full_scale, 1.0))
    table = np.array(boxes, np.float64).reshape(-1, 4)
    table[:, 0::2] = table[:, 0::2].clip(0, image.shape[1])
    table[:, 1::2] = table[:, 1::2].clip(0, image.shape[0])
    return table, np.array(scores, np.float64)


def center_boxes(image: np.ndarray, side: float, steps: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Boxes around the centre of the breast: where lesions are if nothing is known but the outline.

    The best box has its centre at the centroid of the tissue; the others lie on a grid of half a side around it, as far
    as their centres are in tissue, with scores that fall with the distance: ``exp(-(d / (2 side))²)`` in pixels.

    Args:
        image: (H, W), background about 0.
        side: of the boxes, as a part of the longer side of the breast's bounding box.
        steps: boxes in each direction of the grid, odd.

    Returns:
        Boxes (n, 4) XYXY, clipped to the image, by falling score, and their scores (n,) in (0, 1]; the first is 1.
    """
    mask = tissue_mask(image)
    rows, columns = np.nonzero(mask)
    y0, x0 = rows.mean() + 0.5, columns.mean() + 0.5
    length = side * max(np.ptp(rows) + 1, np.ptp(columns) + 1)
    shifts = (np.arange(steps) - steps // 2) * length / 2
    dy, dx = (grid.ravel() for grid in np.meshgrid(shifts, shifts, indexing="ij"))
    y, x = y0 + dy, x0 + dx
    inside = (y >= 0) & (x >= 0) & (y < image.shape[0]) & (x < image.shape[1])
    inside[inside] = mask[y[inside].astype(int), x[inside].astype(int)]
    inside |= (dy == 0) & (dx == 0)
    scores = np.exp(-(dy**2 + dx**2) / (2 * length) ** 2)[inside]
    order = np.argsort(-scores, kind="stable")
    y, x, half = y[inside][order], x[inside][order], length / 2
    boxes = np.stack([x - half, y - half, x + half, y + half], axis=1)
    boxes[:, 0::2] = boxes[:, 0::2].clip(0, image.shape[1])
    boxes[:, 1::2] = boxes[:, 1::2].clip(0, image.shape[0])
    return boxes, scores[order]


def _mean(image: np.ndarray, weight: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian mean over the pixels of weight 1 alone."""
    total = ndimage.gaussian_filter(image * weight, sigma, mode="constant")
    norm = ndimage.gaussian_filter(weight, sigma, mode="constant")
    return np.divide(total, norm, out=np.zeros_like(total), where=norm > 1e-9)
