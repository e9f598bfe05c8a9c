"""Average precision of a detector in its common definitions, for one data set or many bootstrap replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocEvents, count_above
from mammo_d2.evaluation.metrics.weighted_sums import WeightedSums

INTERPOLATIONS = ("coco101", "voc11", "area", "sum")
COCO_RECALLS = np.linspace(0.0, 1.0, 101)
VOC_RECALLS = np.arange(11) / 10


def ap_of_counts(
    found: np.ndarray, tp: np.ndarray, fp: np.ndarray, units: np.ndarray, interpolation: str
) -> np.ndarray:
    """Average precision from counts at the scores where lesions are found.

    Formula: at the ``t``-th such score recall is ``R_t = tp_t / units`` and precision ``P_t = tp_t / (tp_t + fp_t)``;
    ``Q_t = max over later t' >= t of P_t'`` is precision made monotone. Then

    * "coco101": mean over recalls 0, 0.01, …, 1 of Q at the first ``R_t >= recall``, 0 beyond the last (COCO);
    * "voc11": the same over 0, 0.1, …, 1 (PASCAL VOC 2007);
    * "area": ``sum (R_t - R_{t-1}) Q_t``, the area under the monotone curve (PASCAL VOC 2010 and later);
    * "sum": ``sum (R_t - R_{t-1}) P_t`` without making it monotone (scikit-learn; PI-CAI's lesion AP).

    Args:
        found: (T, b) weight of the lesions found first at each score.
        tp, fp: (T, b) running weights of found lesions and of false positives at "score >= this one".
        units: (b,) weight of all lesions.
        interpolation: see above.

    Returns:
        (b,) values in [0, 1], NaN where there is no lesion.
    """
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"AP interpolation {interpolation!r} is none of {', '.join(INTERPOLATIONS)}")
    defined = np.where(units > 0, 1.0, np.nan)
    if not len(tp):
        return 0.0 * defined
    precision = np.divide(tp, tp + fp, out=np.zeros(tp.shape), where=tp > 0)
    if interpolation != "sum":
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        if interpolation in ("area", "sum"):
            # One by one, so that scores of weight 0 change no bit.
            return np.cumsum(found * precision, axis=0)[-1] / units * defined
        recall = tp / units
    wanted = COCO_RECALLS if interpolation == "coco101" else VOC_RECALLS
    padded = np.concatenate([precision, np.zeros((1, tp.shape[1]))])
    columns = [
        padded[np.searchsorted(recall[:, c], wanted, side="left"), c] if units[c] > 0 else np.zeros(len(wanted))
        for c in range(tp.shape[1])
    ]
    return np.cumsum(np.stack(columns, axis=1), axis=0)[-1] / len(wanted) * defined


class ApStatistic:
    """Average precision as a mean over several event sets (classes, hit thresholds), for patient weights.

    Args:
        groups: the numbers to give; each is the mean over its event sets of those that are defined.
        patient: (N,) patient of each image.
        interpolation: see ``ap_of_counts``.
    """

    def __init__(self, groups: Mapping[str, Sequence[FrocEvents]], patient: np.ndarray, interpolation: str) -> None:
        self.keys = list(groups)
        self.interpolation = interpolation
        self._patient = patient
        # Groups share event sets (AP contains AP50's): each is evaluated once.
        self._events = list({id(e): e for events in groups.values() for e in events}.values())
        number = {id(e): n for n, e in enumerate(self._events)}
        self._members = [[number[id(e)] for e in events] for events in groups.values()]

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) values for patient weights (M, b)."""
        values = np.stack([self._one(events, weights) for events in self._events])
        rows = []
        for members in self._members:
            chosen = values[members]
            defined = ~np.isnan(chosen)
            total, count = np.where(defined, chosen, 0.0).sum(axis=0), defined.sum(axis=0)
            rows.append(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
        return np.stack(rows)

    def _one(self, events: FrocEvents, weights: np.ndarray) -> np.ndarray:
        drawn = np.take(weights, self._patient[events.unit_image], axis=0).astype(np.int64)
        scores = events.unit_scores[np.isfinite(events.unit_scores)]
        if not len(scores):
            return ap_of_counts(drawn[:0], drawn[:0], drawn[:0], drawn.sum(axis=0), self.interpolation)
        starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])
        found = np.add.reduceat(drawn[: len(scores)], starts, axis=0)
        false = WeightedSums(self._patient[events.fp_image], weights)
        fp = false.at_all(count_above(events.fp_scores, scores[starts], True))
        return ap_of_counts(found, np.cumsum(found, axis=0), fp, drawn.sum(axis=0), self.interpolation)


def detection_average_precision(events: FrocEvents, interpolation: str) -> float:
    """Average precision of one event set in which every image counts once."""
    image = np.arange(len(events.counted))
    statistic = ApStatistic({"AP": [events]}, image, interpolation)
    return float(statistic.replicate(np.ones((len(image), 1), np.uint16))[0, 0])
