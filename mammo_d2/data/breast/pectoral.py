"""An estimate of the pectoral muscle in mediolateral oblique views.

The muscle is the bright triangle between the chest wall and a nearly straight edge that runs from the top of the image
down to the chest wall. All such straight lines of plausible position are tried on a reduced copy; the one with the
strongest and most consistent step from bright (muscle) to dark is taken. The edge of a real muscle is slightly curved,
so this is meant for leaving the region out of a search, not for measuring it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammo_d2.data.breast.mask import breast_box, breast_mask, chest_wall_side

# Height of the reduced copy in pixels.
_WORKING_HEIGHT = 256
# Distance from a candidate line at which its two sides are compared, in pixels of the reduced copy.
_OFFSET = 5.0
# Tilt of the edge against the vertical, in degrees.
_ANGLES = (8.0, 55.0)
# Least mean step (fraction of the breast's grey range) and least share of the line that has the right sign.
_MIN_STEP = 0.04
_MIN_SHARE = 0.75
# Steps count up to this, so that few strong ones do not outweigh a consistent edge.
_STEP_CLIP = 0.15
# Least share of a line's points whose outer neighbour is in the breast.
_IN_TISSUE = 0.95


@dataclass(frozen=True)
class PectoralEdge:
    """The straight edge of the muscle in image pixels (continuous, origin at the top left corner).

    Attributes:
        top: (x, y) where the edge meets the top of the breast's box.
        bottom: (x, y) where it meets the chest wall.
        corner: (x, y) of the muscle's third corner: chest wall at the top.
        score: mean step across the edge as a fraction of the breast's grey range, times the share of the edge with it.
    """

    top: tuple[float, float]
    bottom: tuple[float, float]
    corner: tuple[float, float]
    score: float

    def polygon(self) -> list[float]:
        """The triangle as x1, y1, x2, y2, x3, y3."""
        return [*self.corner, *self.top, *self.bottom]

    def mask(self, size: tuple[int, int]) -> np.ndarray:
        """bool (H, W) mask of the triangle in an image of ``size`` (height, width)."""
        # Pixel centres as fractions of the two sides that meet in the corner.
        across = (np.arange(size[1]) + 0.5 - self.corner[0]) / (self.top[0] - self.corner[0])
        down = (np.arange(size[0])[:, np.newaxis] + 0.5 - self.corner[1]) / (self.bottom[1] - self.corner[1])
        return (across >= 0) & (down >= 0) & (across + down <= 1)


def pectoral_edge(image: np.ndarray, mask: np.ndarray | None = None, side: str | None = None) -> PectoralEdge | None:
    """Find the muscle's edge in an MLO view.

    Args:
        image: (H, W), bright on dark.
        mask: breast mask, bool (H, W); made when None.
        side: side of the chest wall, "left" or "right"; taken from the mask when None.

    Returns:
        The edge, or None if no line is convincing (no muscle in view, a CC view).
    """
    if mask is None:
        mask = breast_mask(image)
    side = side or chest_wall_side(mask)
    if side is None:
        return None
    x, y, w, h = breast_box(mask)
    part = np.where(mask, image, 0)[y : y + h, x : x + w].astype(np.float32)
    if side == "right":
        part = part[:, ::-1]
    scale = _WORKING_HEIGHT / h
    width = max(8, round(w * scale))
    small = cv2.resize(np.ascontiguousarray(part), (width, _WORKING_HEIGHT), interpolation=cv2.INTER_AREA)
    found = _best_line(cv2.GaussianBlur(small, (0, 0), 2.0))
    if found is None:
        return None
    top, bottom, score = found
    top_x, bottom_y = top * w / width, bottom / scale
    if side == "left":
        return PectoralEdge((x + top_x, float(y)), (float(x), y + bottom_y), (float(x), float(y)), score)
    right = float(x + w)
    return PectoralEdge((right - top_x, float(y)), (right, y + bottom_y), (right, float(y)), score)


def _best_line(small: np.ndarray) -> tuple[float, float, float] | None:
    """(x at the top, y at the left, score) of the best line in an image with the chest wall on its left."""
    height, width = small.shape
    values = small[small > 0]
    if values.size < 100:
        return None
    low, high = np.percentile(values, (5, 95))
    if high <= low:
        return None
    span = float(high - low)
    grid = np.meshgrid(np.arange(0.12, 1.0, 0.02) * width, np.arange(0.15, 1.15, 0.02) * height)
    tops, bottoms = grid[0].ravel(), grid[1].ravel()
    angle = np.degrees(np.arctan2(tops, bottoms))
    keep = (angle >= _ANGLES[0]) & (angle <= _ANGLES[1])
    tops, bottoms = tops[keep], bottoms[keep]
    mean, share, score = _rate_lines(small, tops, bottoms, _OFFSET, _STEP_CLIP, 0.5 * low, span)
    best = int(np.argmax(score))
    if mean[best] < _MIN_STEP or share[best] < _MIN_SHARE or score[best] <= 0:
        return None
    # Clipped steps are the same a few pixels to either side: look there with a finer offset for the steepest place.
    near = np.meshgrid(tops[best] + np.arange(-8, 9) * 0.01 * width, bottoms[best] + np.arange(-8, 9) * 0.01 * height)
    near_tops, near_bottoms = near[0].ravel().clip(min=1), near[1].ravel().clip(min=1)
    fine = _rate_lines(small, near_tops, near_bottoms, _OFFSET / 2, np.inf, 0.5 * low, span)[2]
    finest = int(np.argmax(fine))
    return float(near_tops[finest]), float(near_bottoms[finest]), float(score[best])


def _rate_lines(
    small: np.ndarray, tops: np.ndarray, bottoms: np.ndarray, offset: float, step_clip: float, air: float, span: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each line its mean step, the share of its points with the right sign, and its score (-1: not in tissue).

    Args:
        small: image with the chest wall on its left.
        tops: x of each line at the top.
        bottoms: y of each line at the left.
        offset: distance of the points compared, in pixels.
        step_clip: largest step that counts, as a fraction of ``span``.
        air: darker points are outside the breast.
        span: grey range of the breast.
    """
    height = small.shape[0]
    # Points along each line, (lines, points); the ends are left out, where the edge bends.
    along = np.linspace(0.08, 0.85, 48)
    xs, ys = tops[:, None] * (1 - along), bottoms[:, None] * along
    length = np.hypot(tops, bottoms)[:, None]
    # Unit normal that points away from the muscle's corner.
    normal_x, normal_y = bottoms[:, None] / length, tops[:, None] / length
    inner = _sample(small, xs - offset * normal_x, ys - offset * normal_y)
    outer = _sample(small, xs + offset * normal_x, ys + offset * normal_y)
    step = (inner - outer) / span
    inside = ys < height - 1
    # Outer points in the air would make the skin's edge the strongest line.
    usable = inside & (outer > air)
    count = usable.sum(axis=1)
    share = ((step > 0) & usable).sum(axis=1) / np.maximum(count, 1)
    mean = np.where(usable, step.clip(-step_clip, step_clip), 0).sum(axis=1) / np.maximum(count, 1)
    # A long edge with a fair step beats a short one with a strong step, e.g. at a lymph node or a skin fold.
    score = mean * share * (length[:, 0] / height) ** 0.25
    return mean, share, np.where(count >= _IN_TISSUE * inside.sum(axis=1), score, -1.0)


def _sample(image: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Nearest pixels at (x, y), clamped to the image."""
    rows = np.rint(y - 0.5).clip(0, image.shape[0] - 1).astype(np.intp)
    cols = np.rint(x - 0.5).clip(0, image.shape[1] - 1).astype(np.intp)
    return image[rows, cols]
