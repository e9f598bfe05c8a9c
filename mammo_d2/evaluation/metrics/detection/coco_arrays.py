"""COCO's precision and recall arrays for all images at once: the numbers of pycocotools, without its loops.

Naming: ``D`` detections and ``G`` lesions of one class, ``T`` IoU thresholds, ``R`` recalls, ``K`` classes, ``A`` area
ranges. A step that costs one operation per detection runs once per class and area range; a threshold only looks at the
pairs that overlap. Ties are broken as pycocotools does (image, then file order), so that the numbers are the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.detection.matching import (
    HitPairs,
    HitRule,
    assign_greedy,
    box_areas,
    find_hits,
    rank_within,
)
from mammo_d2.evaluation.metrics.tables import EvaluationData

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0.0, 1.0, 101)
#: Detections of each image and class that count for the average recall of COCO's own summary.
RECALL_LIMITS = (1, 10, 100)
AREAS = {"": (0.0, 1e10), "s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, 1e10)}


@dataclass(frozen=True)
class CocoArrays:
    """``precision`` (T, R, K, A), ``recall`` (T, K, A) and ``recall_of_best`` (T, K, A, L), that of the best detections
    of each image (``RECALL_LIMITS``); -1 where the class has no lesion in the area range."""

    precision: np.ndarray
    recall: np.ndarray
    recall_of_best: np.ndarray


@dataclass(frozen=True)
class _ClassData:
    """One class. Only the ``H`` detections that overlap a lesion are matched; the others are counted.

    Attributes:
        pairs: with IoU >= 0.5 (crowd: part of the detection's area); ``detection`` counts the H ones.
        overlapping: (H,) their rows among the D detections of the class.
        place: (H,) place of each of them in the order of falling score of all D.
        rank: (H,) place within its image.
        image: (H,) its image.
        all_places: (D,) ``place`` of every detection.
        det_area, gt_area: (D,), (G,).
        crowd: (G,) bool, crowd regions, which are never used up.
    """

    pairs: HitPairs
    overlapping: np.ndarray
    place: np.ndarray
    rank: np.ndarray
    image: np.ndarray
    all_places: np.ndarray
    det_area: np.ndarray
    gt_area: np.ndarray
    crowd: np.ndarray


def _class_data(data: EvaluationData, label: int) -> _ClassData:
    found, lesions = data.detections, data.lesions.take(data.lesions.label == label)
    if not (mine := found.label == label).all():
        found = found.take(mine)
    crowd = lesions.crowd | lesions.ignore
    parts = []
    for kind, rows in (("iou", np.flatnonzero(~crowd)), ("iobb", np.flatnonzero(crowd))):
        rule = HitRule(kind, float(THRESHOLDS[0]))
        part = find_hits(rule, found.boxes, found.image, lesions.boxes[rows], lesions.image[rows])
        parts.append((part.detection, rows[part.lesion], part.quality))
    place, rank = np.empty((2, len(found)), np.int64)
    by_score = np.lexsort((found.image, -found.scores))
    place[by_score] = np.arange(len(found))
    by_image = by_score[np.argsort(found.image[by_score], kind="stable")]
    rank[by_image] = rank_within(found.image[by_image])
    detection, lesion, quality = (np.concatenate(column) for column in zip(*parts, strict=True))
    overlapping, number = np.unique(detection, return_inverse=True)
    return _ClassData(
        HitPairs(number, lesion, quality),
        overlapping,
        place[overlapping],
        rank[overlapping],
        found.image[overlapping],
        place,
        box_areas(found.boxes),
        lesions.area,
        crowd,
    )


def _choose(pairs: HitPairs, keep: np.ndarray) -> HitPairs:
    return HitPairs(pairs.detection[keep], pairs.lesion[keep], pairs.quality[keep])


def _counts_at(places: np.ndarray, members: np.ndarray) -> np.ndarray:
    """How many of ``members`` (sorted places) lie at or before each place."""
    return np.searchsorted(members, places, side="right")


def _one_curve(
    one: _ClassData, threshold: float, out_of_range: np.ndarray, ignored: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, float, list[float]]:
    """Sampled precision (R,), largest recall, and recalls of the best detections, at one threshold and area range.

    Args:
        one: the class.
        threshold: IoU threshold.
        out_of_range: (H,) bool, detections whose own area is out of the range.
        ignored: (G,) bool, crowd regions and lesions out of the range.
        kept: (D,) number of detections within the range among the first 1, 2, … by score.
    """
    # pycocotools lets the later of two equally overlapping lesions win.
    lesion_order = -np.arange(len(ignored))
    pairs = _choose(one.pairs, one.pairs.quality >= min(threshold, 1 - 1e-10))
    real = ~ignored[pairs.lesion]
    got = assign_greedy(_choose(pairs, real), one.place, one.image, lesion_order)
    right = got >= 0
    excused = np.zeros(len(right), bool)
    if not real.all():
        rest = _choose(pairs, ~real & ~right[pairs.detection])
        excused = assign_greedy(rest, one.place, one.image, lesion_order, shared=one.crowd) >= 0
    places = np.sort(one.place[right])
    added = np.sort(one.place[right & out_of_range])
    removed = np.sort(one.place[excused & ~out_of_range])
    tp = np.arange(1, len(places) + 1)
    total = kept[places] + _counts_at(places, added) - _counts_at(places, removed)
    precision = np.maximum.accumulate((tp / total)[::-1])[::-1]
    recall = tp / int((~ignored).sum())
    sampled = np.append(precision, 0.0)[np.searchsorted(recall, RECALLS, side="left")]
    # Detections take turns by score: the worse ones take nothing from the better.
    ranks, lesions = one.rank[right], int((~ignored).sum())
    return (
        sampled,
        float(recall[-1]) if len(tp) else 0.0,
        [int((ranks < limit).sum()) / lesions for limit in RECALL_LIMITS],
    )


def coco_arrays(data: EvaluationData) -> CocoArrays:
    """Precision and recall of every threshold, class and area range, all detections of an image included.

    Formula and source: see ``coco_average_precision``. A hit on a lesion outside the area range does not
    count (such a lesion may be hit once, a crowd region any number of times); a detection outside it that hits nothing
    is left out.
    """
    classes = len(data.images.classes)
    precision = np.full((len(THRESHOLDS), len(RECALLS), classes, len(AREAS)), -1.0)
    recall = np.full((len(THRESHOLDS), classes, len(AREAS)), -1.0)
    of_best = np.full((*recall.shape, len(RECALL_LIMITS)), -1.0)
    for label in range(classes):
        one = _class_data(data, label)
        for a, (low, high) in enumerate(AREAS.values()):
            ignored = one.crowd | (one.gt_area < low) | (one.gt_area > high)
            if ignored.all():
                continue
            out_of_range = (one.det_area < low) | (one.det_area > high)
            kept = np.zeros(len(out_of_range), np.int64)
            kept[one.all_places] = ~out_of_range
            kept = np.cumsum(kept)
            for t, threshold in enumerate(THRESHOLDS):
                precision[t, :, label, a], recall[t, label, a], of_best[t, label, a] = _one_curve(
                    one, float(threshold), out_of_range[one.overlapping], ignored, kept
                )
    return CocoArrays(precision, recall, of_best)
