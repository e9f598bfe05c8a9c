"""The best few regions of each class in an image, and whether they hit its lesions."""

from __future__ import annotations

import numpy as np

from mammo_d2.evaluation.metrics.detection.matching import HitRule, find_hits, rank_within
from mammo_d2.evaluation.metrics.tables import EvaluationData


def best_of_each_class(scores: np.ndarray, labels: np.ndarray, count: int) -> np.ndarray:
    """Rows of the best ``count`` boxes of each class of one image, class by class, by falling score.

    Args:
        scores, labels: (n,) of the boxes; of equal scores the first wins.
        count: ≥ 1; a class with fewer boxes gives all.

    Raises:
        ValueError: a count below 1.
    """
    if count < 1:
        raise ValueError(f"at least one region of each class must be kept, got {count}")
    order = np.lexsort((-scores, labels))
    return order[rank_within(labels[order]) < count]


def first_hit_ranks(data: EvaluationData, rule: HitRule) -> np.ndarray:
    """Rank of the first region that hits a lesion of its class, among the image's regions of that class.

    Args:
        data: its detections are the regions.
        rule: when a region hits a lesion.

    Returns:
        (N, C): 1 for the best region, 2 for the next, ...; infinite if none hits; NaN for images without a lesion of
        the class (crowd regions and ignored findings do not count).
    """
    lesions = data.lesions.take(~(data.lesions.crowd | data.lesions.ignore))
    detections = data.detections
    order = np.lexsort((-detections.scores, detections.label, detections.image))
    groups = detections.image * len(data.images.classes) + detections.label
    place = np.empty(len(detections))
    place[order] = rank_within(groups[order]) + 1

    ranks = np.full((len(data.images), len(data.images.classes)), np.nan)
    ranks[lesions.image, lesions.label] = np.inf
    spacing = data.images.spacing[lesions.image]
    pairs = find_hits(rule, detections.boxes, detections.image, lesions.boxes, lesions.image, spacing)
    same = detections.label[pairs.detection] == lesions.label[pairs.lesion]
    hit = pairs.detection[same]
    np.minimum.at(ranks, (detections.image[hit], detections.label[hit]), place[hit])
    return ranks
