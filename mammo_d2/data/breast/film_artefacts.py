"""What a film shows besides the breast: white edges, labels, tape; where they are, and the image without them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

from mammo_d2.data.breast.mask import breast_mask

# Longer side of the reduced copy, in pixels.
_WORKING_SIDE = 512
# Brightness of unexposed film, relative to the brightest pixels. Set by looking at 24 digitised films.
_WHITE = 0.86
# A white edge: how far from the border it may begin and reach, how thick it may be, how much of the side it runs along;
# of a line that is white from end to end, how far from the border and which part of it is white. As fractions.
_NEAR, _DEEP, _THICK, _LONG = 0.03, 0.04, 0.05, 0.15
_BAND, _BAND_SHARE = 0.15, 0.8
# Kept around the breast, as a fraction of the working side: the skin line is darker than the mask's threshold.
_AROUND_BREAST = 0.025
# A label: brighter than the background by this part of the range, and at least this part of the image's area.
_LABEL_STEP, _LABEL_AREA = 0.15, 1e-4


@dataclass(frozen=True)
class FilmArtefacts:
    """Parts of an image that are not the breast.

    Attributes:
        edges: bool (H, W), white edges of a film at the image's border.
        breast: bool (H, W), the breast found without them, and a little around it.
        background: grey of the dark film, which replaces the artefacts.
        labels: XYWH boxes of bright parts outside the breast, in whole pixels of the image, the largest first.
    """

    edges: np.ndarray
    breast: np.ndarray
    background: float
    labels: tuple[tuple[int, int, int, int], ...]

    @cached_property
    def kept(self) -> np.ndarray:
        """bool (H, W), pixels that ``without`` leaves as they are."""
        return self.breast & ~self.edges

    def without(self, image: np.ndarray) -> np.ndarray:
        """A copy of the image in which everything but the breast has the background's grey."""
        return np.where(self.kept, image, np.asarray(self.background, image.dtype))

    @property
    def edge_share(self) -> float:
        """Part of the image that white edges take."""
        return float(self.edges.mean())


def find_artefacts(image: np.ndarray, method: str = "auto") -> FilmArtefacts:
    """Find white edges, then the breast without them, then what is bright outside of it.

    Args:
        image: (H, W), any numeric type, bright on dark, not cropped.
        method: of ``breast_mask``.

    Raises:
        ValueError: not a two-dimensional image, or an unknown method.
    """
    height, width = image.shape
    scale = min(1.0, _WORKING_SIDE / max(image.shape))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(image.astype(np.float32, copy=False), size, interpolation=cv2.INTER_AREA)
    edges = _white_edges(small)
    dark = float(np.median(small[~edges & (small <= np.median(small))])) if (~edges).any() else 0.0
    clean = np.where(edges, dark, small)
    mask = breast_mask(clean, method)
    around = _disc(_AROUND_BREAST * max(small.shape))
    near_breast = cv2.dilate(mask.astype(np.uint8), around).astype(bool)
    outside = ~near_breast & ~edges
    background = float(np.median(small[outside])) if outside.any() else dark
    labels = _labels(clean, outside, background, (height / small.shape[0], width / small.shape[1]))
    return FilmArtefacts(_enlarged(edges, image), _enlarged(near_breast, image), background, labels)


def _white_edges(small: np.ndarray) -> np.ndarray:
    """Bright strips along the border, whole lines or parts of them."""
    top = float(np.percentile(small, 99.9))
    white = small >= max(_WHITE * top, 1e-6)
    edges = np.zeros(small.shape, bool)
    if not white.any() or white.all():
        return edges
    side = max(small.shape)
    # What survives an opening is thicker than an edge.
    thin = white & ~cv2.morphologyEx(
        white.astype(np.uint8), cv2.MORPH_OPEN, _disc(_THICK * side / 2), borderType=cv2.BORDER_CONSTANT, borderValue=0
    ).astype(bool)
    # Four times the left border; turned views of one array.
    for turns in range(4):
        _add_left_edge(np.rot90(thin, turns), np.rot90(white, turns), np.rot90(edges, turns))
    # The rim of an edge is grey.
    return cv2.dilate(edges.astype(np.uint8), np.ones((5, 5), np.uint8)).astype(bool)


def _add_left_edge(thin: np.ndarray, white: np.ndarray, edges: np.ndarray) -> None:
    """Mark the white edge at the left border, in place."""
    height, width = thin.shape
    deepest = max(1, round(_DEEP * width))
    lines = white[:, : max(1, round(_BAND * width))].mean(axis=0) >= _BAND_SHARE
    if lines[: max(1, round(_NEAR * width))].any():
        first = int(np.argmax(lines))
        rest = lines[first:]
        end = first + (len(rest) if rest.all() else int(np.argmin(rest)))
        if end < len(lines):  # a wider band is no edge
            edges[:, :end] |= white[:, :end]
    count, parts, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(thin, np.uint8), connectivity=8)
    for part in range(1, count):
        left, _, across, along, area = stats[part]
        if left <= _NEAR * width and along >= _LONG * height and area <= _THICK * width * along and across < width / 2:
            # Bright tissue at the border may hang together with the edge: rows in which it is thicker are left.
            near = parts[:, :deepest] == part
            thickness = near.sum(axis=1)
            usual = float(np.median(thickness[thickness > 0]))
            near &= (thickness <= 1.5 * usual + 1)[:, None]
            if near.any():
                start = float(np.median(np.argmax(near, axis=1)[near.any(axis=1)]))
                near[:, round(start + 1.5 * usual) + 2 :] = False
                edges[:, :deepest] |= near


def _labels(
    clean: np.ndarray, outside: np.ndarray, background: float, scale: tuple[float, float]
) -> tuple[tuple[int, int, int, int], ...]:
    top = float(np.percentile(clean, 99.9))
    bright = outside & (clean > background + _LABEL_STEP * (top - background))
    joined = cv2.morphologyEx(bright.astype(np.uint8), cv2.MORPH_CLOSE, _disc(0.008 * max(clean.shape)))
    count, _, stats, _ = cv2.connectedComponentsWithStats(joined, connectivity=8)
    order = sorted(range(1, count), key=lambda part: -int(stats[part, cv2.CC_STAT_AREA]))
    boxes = []
    for part in order:
        x, y, w, h, area = (int(value) for value in stats[part])
        if area >= _LABEL_AREA * clean.size:
            (sy, sx) = scale
            boxes.append((int(x * sx), int(y * sy), max(1, round(w * sx)), max(1, round(h * sy))))
    return tuple(boxes)


def _disc(radius: float) -> np.ndarray:
    size = 2 * max(1, round(radius)) + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size))


def _enlarged(mask: np.ndarray, image: np.ndarray) -> np.ndarray:
    height, width = image.shape
    return cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).astype(bool)
