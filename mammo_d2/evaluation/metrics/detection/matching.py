"""When a detection hits a lesion, and which detection gets which lesion, for all images of a data set at once.

Naming: ``D`` detections, ``G`` lesions, ``P`` candidate pairs (a detection and a lesion of the same image). Boxes are
XYXY in pixels. Pairs exist only where an image has lesions, so the cost follows the positive images, not the data set.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

OVERLAP_KINDS = ("iou", "iom", "iobb", "iogt")
DISTANCE_KINDS = ("center_in_box", "center_radius", "center_half_diagonal", "center_px", "center_mm", "center_max")


@dataclass(frozen=True)
class HitRule:
    """When a detection counts as a hit of a lesion.

    Attributes:
        kind: one of
            "iou": intersection over union (COCO, VOC);
            "iom": intersection over the smaller of the two areas (Wagner, Bakalo): a tiny box inside the lesion and a
            box around the whole breast are both hits, which FROC's ``hit_area_ratio`` shows;
            "iobb": intersection over the detection's area; "iogt": over the lesion's area;
            "center_in_box": the detection's centre lies in the lesion's box (threshold unused);
            "center_radius": centre distance within ``threshold`` × half the lesion's longer side (LUNA16's radius);
            "center_half_diagonal": centre distance within ``threshold`` × half the lesion's diagonal;
            "center_px": centre distance within ``threshold`` pixels; "center_mm": within ``threshold`` millimetres;
            "center_max": centre distance within max(half the lesion's diagonal, ``threshold`` pixels) (DBTex).
        threshold: see kind.
        strict: True asks for "better than" the threshold, False for "at least as good as".
        pixel_offset: 1 counts a box's sides as ``x1 - x0 + 1`` (PASCAL VOC's integer pixels), 0 as ``x1 - x0``.
    """

    kind: str = "iou"
    threshold: float = 0.5
    strict: bool = False
    pixel_offset: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in OVERLAP_KINDS + DISTANCE_KINDS:
            raise ValueError(f"hit rule {self.kind!r} is none of {', '.join(OVERLAP_KINDS + DISTANCE_KINDS)}")
        if self.threshold < 0 or not np.isfinite(self.threshold):
            raise ValueError(f"threshold {self.threshold} of hit rule {self.kind!r}: a finite number >= 0 is needed")
        # IoU >= 0 is true of boxes that do not touch, IoU > 1 of none.
        everything, nothing = self.threshold == 0 and not self.strict, self.threshold == 1 and self.strict
        if self.kind in OVERLAP_KINDS and (self.threshold > 1 or everything or nothing):
            reached = "every box of the image hits" if everything else "no box can hit"
            raise ValueError(f"hit rule {self}: {reached}; overlaps lie between 0 and 1, name a threshold such as 0.5")

    def __str__(self) -> str:
        if self.kind == "center_in_box":
            return "centre strictly in box" if self.strict else "centre in box"
        better = (">" if self.strict else ">=") if self.kind in OVERLAP_KINDS else ("<" if self.strict else "<=")
        text = {
            "iou": "IoU {} {:g}",
            "iom": "IoM {} {:g}",
            "iobb": "intersection/detection area {} {:g}",
            "iogt": "intersection/lesion area {} {:g}",
            "center_radius": "centre distance {} {:g} x half the longer side",
            "center_half_diagonal": "centre distance {} {:g} x half diagonal",
            "center_px": "centre distance {} {:g} px",
            "center_mm": "centre distance {} {:g} mm",
            "center_max": "centre distance {} max(half diagonal, {:g} px)",
        }[self.kind].format(better, self.threshold)
        return text + (", +1 px boxes" if self.pixel_offset else "")


@dataclass(frozen=True)
class HitPairs:
    """All hits: ``detection`` (P,) and ``lesion`` (P,) row numbers, ``quality`` (P,), higher is better (overlap, or
    minus the distance). Ordered by detection, then lesion."""

    detection: np.ndarray
    lesion: np.ndarray
    quality: np.ndarray

    def __len__(self) -> int:
        return len(self.detection)


def _pairs_of_same_image(
    det_image: np.ndarray, gt_image: np.ndarray, chunk: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (detection rows, lesion rows) of every same-image pair, at most about ``chunk`` pairs at a time."""
    if not len(det_image) or not len(gt_image):
        return
    order = np.argsort(gt_image, kind="stable")
    counts = np.bincount(gt_image, minlength=int(det_image.max()) + 1)
    starts = np.cumsum(counts) - counts
    with_lesion = np.flatnonzero(counts[det_image])
    ends = np.cumsum(counts[det_image[with_lesion]])
    begin = 0
    while begin < len(with_lesion):
        before = ends[begin - 1] if begin else 0
        stop = max(int(np.searchsorted(ends, before + chunk, side="right")), begin + 1)
        rows = with_lesion[begin:stop]
        repeats = counts[det_image[rows]]
        first = np.repeat(np.cumsum(repeats) - repeats, repeats)
        within = np.arange(len(first)) - first
        yield np.repeat(rows, repeats), order[np.repeat(starts[det_image[rows]], repeats) + within]
        begin = stop


def box_areas(boxes: np.ndarray, pixel_offset: float = 0.0) -> np.ndarray:
    """Areas (n,) of boxes (n, 4) XYXY."""
    return (boxes[:, 2] - boxes[:, 0] + pixel_offset) * (boxes[:, 3] - boxes[:, 1] + pixel_offset)


def pair_overlap(kind: str, a: np.ndarray, b: np.ndarray, pixel_offset: float = 0.0) -> np.ndarray:
    """Overlap of detection ``a[i]`` with lesion ``b[i]``.

    Formula: with ``I = |a ∩ b|``: iou ``I / (|a| + |b| - I)``, iom ``I / min(|a|, |b|)``, iobb ``I / |a|``, iogt
    ``I / |b|``. A zero denominator gives 0 (a box without area overlaps nothing).

    Args:
        kind: "iou", "iom", "iobb" or "iogt".
        a, b: (P, 4) XYXY.
        pixel_offset: see ``HitRule``.

    Returns:
        (P,) float64 in [0, 1].
    """
    width = np.minimum(a[:, 2], b[:, 2]) - np.maximum(a[:, 0], b[:, 0]) + pixel_offset
    height = np.minimum(a[:, 3], b[:, 3]) - np.maximum(a[:, 1], b[:, 1]) + pixel_offset
    common = np.clip(width, 0, None) * np.clip(height, 0, None)
    area_a, area_b = box_areas(a, pixel_offset), box_areas(b, pixel_offset)
    if kind == "iou":
        whole = area_a + area_b - common
    elif kind == "iom":
        whole = np.minimum(area_a, area_b)
    elif kind == "iobb":
        whole = area_a
    elif kind == "iogt":
        whole = area_b
    else:
        raise ValueError(f"overlap {kind!r} is none of {', '.join(OVERLAP_KINDS)}")
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def _judge(rule: HitRule, a: np.ndarray, b: np.ndarray, spacing: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """(hit (P,) bool, quality (P,)) of detection ``a[i]`` and lesion ``b[i]``; spacing (P, 2) mm per (row, column)."""
    if rule.kind in OVERLAP_KINDS:
        quality = pair_overlap(rule.kind, a, b, rule.pixel_offset)
        return (quality > rule.threshold if rule.strict else quality >= rule.threshold), quality
    centre_a, centre_b = (a[:, :2] + a[:, 2:]) / 2, (b[:, :2] + b[:, 2:]) / 2
    step = centre_a - centre_b
    if rule.kind == "center_in_box":
        distance = np.hypot(step[:, 0], step[:, 1])
        if rule.strict:
            inside = (centre_a > b[:, :2]) & (centre_a < b[:, 2:])
        else:
            inside = (centre_a >= b[:, :2]) & (centre_a <= b[:, 2:])
        return inside.all(axis=1), -distance
    if rule.kind == "center_mm":
        assert spacing is not None
        step = step * spacing[:, ::-1]
    distance = np.hypot(step[:, 0], step[:, 1])
    sides = b[:, 2:] - b[:, :2]
    half_diagonal = np.hypot(sides[:, 0], sides[:, 1]) / 2
    limit: np.ndarray | float = rule.threshold
    if rule.kind == "center_half_diagonal":
        limit = rule.threshold * half_diagonal
    elif rule.kind == "center_radius":
        limit = rule.threshold * sides.max(axis=1) / 2
    elif rule.kind == "center_max":
        limit = np.maximum(half_diagonal, rule.threshold)
    return (distance < limit if rule.strict else distance <= limit), -distance


def find_hits(
    rule: HitRule,
    det_boxes: np.ndarray,
    det_image: np.ndarray,
    gt_boxes: np.ndarray,
    gt_image: np.ndarray,
    spacing: np.ndarray | None = None,
    chunk: int = 1 << 20,
) -> HitPairs:
    """Every (detection, lesion) pair of the same image that is a hit under ``rule``.

    Args:
        rule: the hit rule.
        det_boxes, det_image: (D, 4) XYXY and (D,) image rows.
        gt_boxes, gt_image: (G, 4) XYXY and (G,) image rows.
        spacing: (G, 2) mm per pixel (row, column) of every lesion's image; needed by "center_mm" only.
        chunk: pairs held at once, which bounds the memory.

    Raises:
        ValueError: "center_mm" and an image with lesions has no pixel spacing.
    """
    if rule.kind == "center_mm" and len(gt_image):
        unknown = 0 if spacing is None else len(np.unique(gt_image[np.isnan(spacing).any(axis=1)]))
        if spacing is None or unknown:
            raise ValueError(
                f"hit rule '{rule}' needs pixel_spacing, which {unknown or 'all'} image(s) with lesions lack; "
                "add it to the ground-truth file or choose a rule in pixels"
            )
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for detection, lesion in _pairs_of_same_image(det_image, gt_image, chunk):
        where = spacing[lesion] if rule.kind == "center_mm" and spacing is not None else None
        hit, quality = _judge(rule, det_boxes[detection], gt_boxes[lesion], where)
        found.append((detection[hit], lesion[hit], quality[hit]))
    if not found:
        return HitPairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return HitPairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def rank_within(keys: np.ndarray) -> np.ndarray:
    """Rank of each element among the equal, *adjacent* keys: [3, 3, 5, 5, 5] -> [0, 1, 0, 1, 2]."""
    if not len(keys):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
    return np.arange(len(keys)) - np.repeat(starts, np.diff(np.r_[starts, len(keys)]))


def order_of_boxes(boxes: np.ndarray) -> np.ndarray:
    """(n,) rank of each box by its coordinates: an order that does not depend on the order of the file."""
    rank = np.empty(len(boxes), np.int64)
    rank[np.lexsort(boxes.T[::-1])] = np.arange(len(boxes))
    return rank


def best_lesion(pairs: HitPairs, num_detections: int, gt_boxes: np.ndarray) -> np.ndarray:
    """(D,) int64, the lesion that each detection hits with the highest quality, -1 for none; lesions may be shared."""
    got = np.full(num_detections, -1, np.int64)
    sequence = np.lexsort((order_of_boxes(gt_boxes)[pairs.lesion], -pairs.quality, pairs.detection))
    detection, first = np.unique(pairs.detection[sequence], return_index=True)
    got[detection] = pairs.lesion[sequence][first]
    return got


def holders(pairs: HitPairs, scores: np.ndarray, det_boxes: np.ndarray, num_lesions: int) -> np.ndarray:
    """(G,) int64, the detection that holds each lesion: the best score, then quality, then box; -1 for none."""
    got = np.full(num_lesions, -1, np.int64)
    corners = det_boxes[pairs.detection].T[::-1]
    sequence = np.lexsort((*corners, -pairs.quality, -scores[pairs.detection], pairs.lesion))
    lesion, first = np.unique(pairs.lesion[sequence], return_index=True)
    got[lesion] = pairs.detection[sequence][first]
    return got


def order_of_detections(pairs: HitPairs, scores: np.ndarray, det_boxes: np.ndarray) -> np.ndarray:
    """(D,) the turn of each hitting detection: by falling score, equal scores by best quality, then by box, so that the
    order of the file decides nothing. Detections that hit nothing get 0 and no turn."""
    best = np.full(len(scores), -np.inf)
    np.maximum.at(best, pairs.detection, pairs.quality)
    hitting = np.unique(pairs.detection)
    order = np.zeros(len(scores), np.int64)
    by_turn = np.lexsort((*det_boxes[hitting].T[::-1], -best[hitting], -scores[hitting]))
    order[hitting[by_turn]] = np.arange(len(hitting))
    return order


def assign_greedy(
    pairs: HitPairs,
    det_order: np.ndarray,
    det_image: np.ndarray,
    gt_order: np.ndarray,
    shared: np.ndarray | None = None,
) -> np.ndarray:
    """Give each lesion to at most one detection and each detection at most one lesion, the best score first.

    In every image the detections take turns; each takes the free lesion it hits with the highest quality (COCO's
    rule). All images take their k-th turn together, so the number of steps is the largest number of hitting
    detections in one image.

    Args:
        pairs: the hits.
        det_order: (D,) distinct numbers for the hitting detections, lower ones choose first.
        det_image: (D,) image rows.
        gt_order: (G,) among lesions hit with equal quality the lowest number is taken.
        shared: (G,) bool, lesions that may be given to any number of detections (crowd regions).

    Returns:
        (D,) int64, the lesion each detection got, -1 for none.
    """
    got = np.full(len(det_image), -1, np.int64)
    if not len(pairs):
        return got
    hitting = np.unique(pairs.detection)
    order = np.lexsort((det_order[hitting], det_image[hitting]))
    turn = np.zeros(len(det_image), np.int64)
    turn[hitting[order]] = rank_within(det_image[hitting[order]])
    # Within a turn the first pair of a detection is its best one, so that np.unique picks it.
    sequence = np.lexsort((gt_order[pairs.lesion], -pairs.quality, pairs.detection, turn[pairs.detection]))
    detection, lesion = pairs.detection[sequence], pairs.lesion[sequence]
    bounds = np.searchsorted(turn[detection], np.arange(turn.max() + 2))
    taken = np.zeros(len(gt_order), bool)
    for begin, end in pairwise(bounds):
        free = ~taken[lesion[begin:end]]
        winners, first = np.unique(detection[begin:end][free], return_index=True)
        got[winners] = lesion[begin:end][free][first]
        taken[got[winners]] = True
        if shared is not None:
            taken &= ~shared
    return got
