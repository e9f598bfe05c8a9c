"""One-to-one assignment with the most matches and then the largest total quality, whatever the scores (picai_eval)."""

from __future__ import annotations

import numpy as np

from mammo_d2.evaluation.metrics.detection.matching import HitPairs


def assign_hungarian(pairs: HitPairs, num_detections: int, det_image: np.ndarray) -> np.ndarray:
    """The assignment of ``scipy.optimize.linear_sum_assignment`` in every image.

    Pairs that compete with no other are taken at once; only images with competition are solved one by one.

    Args:
        pairs: the hits; qualities are overlaps in [0, 1] or minus distances.
        num_detections: D.
        det_image: (D,) image rows.

    Returns:
        (D,) int64, the lesion each detection got, -1 for none.
    """
    from scipy.optimize import linear_sum_assignment

    got = np.full(num_detections, -1, np.int64)
    if not len(pairs):
        return got
    per_detection = np.bincount(pairs.detection, minlength=num_detections)
    per_lesion = np.bincount(pairs.lesion)
    alone = (per_detection[pairs.detection] == 1) & (per_lesion[pairs.lesion] == 1)
    got[pairs.detection[alone]] = pairs.lesion[alone]
    rest = np.flatnonzero(~alone)
    rest = rest[np.argsort(det_image[pairs.detection[rest]], kind="stable")]
    image = det_image[pairs.detection[rest]]
    for members in np.split(rest, np.flatnonzero(np.diff(image)) + 1):
        if not len(members):
            continue
        detections, row = np.unique(pairs.detection[members], return_inverse=True)
        lesions, column = np.unique(pairs.lesion[members], return_inverse=True)
        quality = pairs.quality[members]
        # A match is worth more than any gain in quality, so that the number of matches comes first.
        worth = quality - quality.min() + 1
        table = np.zeros((len(detections), len(lesions)))
        table[row, column] = worth + min(len(detections), len(lesions)) * np.ptp(quality)
        rows, columns = linear_sum_assignment(table, maximize=True)
        real = table[rows, columns] > 0
        got[detections[rows[real]]] = lesions[columns[real]]
    return got
