"""Average precision of a detector in its common definitions, for one data set or many bootstrap replicates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import (
    FrocEvents,
    FrocRule,
    count_above,
    froc_candidates,
    hits_of,
    match_candidates,
    recall_units,
)
from mammo_d2.evaluation.metrics.detection.matching import OVERLAP_KINDS, HitPairs
from mammo_d2.evaluation.metrics.tables import EvaluationData
from mammo_d2.evaluation.metrics.weighted_sums import SegmentSums, replicate_parts

INTERPOLATIONS = ("coco101", "voc11", "area", "sum")
COCO_RECALLS = np.linspace(0.0, 1.0, 101)
VOC_RECALLS = np.arange(11) / 10


def ap_of_counts(
    found: np.ndarray, tp: np.ndarray, accepted: np.ndarray, units: np.ndarray, interpolation: str
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
        tp, accepted: (T, b) running weights of found lesions, and of these and false positives together, at "score >=
            this one".
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
    precision = tp / np.maximum(accepted, 1)  # nothing found: 0
    if interpolation in ("area", "sum"):
        if interpolation == "area":
            precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            # One by one, so that scores of weight 0 change no bit.
            return np.cumsum(found * precision, axis=0)[-1] / units * defined
    wanted = COCO_RECALLS if interpolation == "coco101" else VOC_RECALLS
    sampled = np.zeros((tp.shape[1], len(wanted)))
    for c in np.flatnonzero(units > 0):
        rows = np.searchsorted(tp[:, c], _least_count(wanted, units[c]), side="left")
        rows = rows[rows < len(tp)]
        if len(rows):
            distinct, number = np.unique(rows, return_inverse=True)
            best = np.maximum.reduceat(precision[:, c], distinct)
            sampled[c, : len(rows)] = np.maximum.accumulate(best[::-1])[::-1][number]
    return np.cumsum(sampled, axis=1)[:, -1] / len(wanted) * defined


def _least_count(recalls: np.ndarray, units: float) -> np.ndarray:
    """(R,) the smallest whole numbers ``k`` with ``k / units >= recall``, as floating point divides."""
    count = np.ceil(recalls * units)
    count -= (count > 0) & ((count - 1) / units >= recalls)
    return (count + (count / units < recalls)).astype(np.int64)


@dataclass(frozen=True)
class FalseList:
    """``scores`` (F,), falling, and ``image`` (F,) of detections that several event sets have in common."""

    scores: np.ndarray
    image: np.ndarray


@dataclass(frozen=True)
class ApEvents:
    """What an average precision counts.

    Attributes:
        listed: detections that are false positives, but for those of
        spared: (S,) rows of ``listed``, rising.
        unit_scores, unit_image: (U,) as in ``FrocEvents``.
    """

    listed: FalseList
    spared: np.ndarray
    unit_scores: np.ndarray
    unit_image: np.ndarray


def plain_ap_events(events: FrocEvents) -> ApEvents:
    """The events of one matching."""
    listed = FalseList(events.fp_scores, events.fp_image)
    return ApEvents(listed, np.zeros(0, np.int64), events.unit_scores, events.unit_image)


def ap_events(data: EvaluationData, rules: Sequence[FrocRule], label: int | None) -> list[ApEvents]:
    """Events of rules that differ in the hit threshold alone, with one list of the detections for all of them.

    Args:
        data: images, lesions and detections.
        rules: at least one.
        label: class number, or None for all classes.

    Raises:
        ValueError: rules that differ in more.
    """
    first = rules[0]
    if any(replace(rule, hit=replace(rule.hit, threshold=first.hit.threshold)) != first for rule in rules):
        raise ValueError("average precision over several rules: they may differ in the hit threshold only")
    candidates = froc_candidates(data, first, label)
    found = candidates.found
    counted = candidates.counted[found.image]
    order = np.flatnonzero(counted)
    order = order[np.argsort(-found.scores[order])]
    place = np.empty(len(found), np.int64)
    place[order] = np.arange(len(order))
    listed = FalseList(found.scores[order], found.image[order])
    # Pairs with the overlap of the lowest threshold contain those of the others.
    lowest = min(rules, key=lambda rule: rule.hit.threshold)
    shared = hits_of(candidates, lowest) if first.hit.kind in OVERLAP_KINDS else None
    sets = []
    for rule in rules:
        hits = None
        if shared is not None:
            pairs, limit = shared[0], rule.hit.threshold
            enough = pairs.quality > limit if rule.hit.strict else pairs.quality >= limit
            hits = HitPairs(pairs.detection[enough], pairs.lesion[enough], pairs.quality[enough]), shared[1]
        match = match_candidates(candidates, rule, hits)
        scores, image = recall_units(data, candidates, match, rule.recall_unit)
        sets.append(ApEvents(listed, np.sort(place[counted & ~match.wrong]), scores, image))
    return sets


class _CountedSet:
    """One event set as sums of patient weights at the distinct scores where units are found."""

    def __init__(self, events: ApEvents, patient: np.ndarray) -> None:
        scores = events.unit_scores[np.isfinite(events.unit_scores)]
        starts = np.flatnonzero(np.r_[np.ones(min(len(scores), 1), bool), scores[1:] != scores[:-1]])
        owner = patient[events.unit_image]
        self.units = SegmentSums(owner, np.array([0, len(owner)]))
        self.found = SegmentSums(owner, np.append(starts, len(scores)))
        #: (T,) how many of the list lie at or above each score
        self.positions = count_above(events.listed.scores, scores[starts], True)
        passed = np.searchsorted(events.spared, self.positions)
        spared, bounds = patient[events.listed.image[events.spared]], np.concatenate([[0], passed])
        ends = np.append(starts, len(scores))
        # Mostly the detections spared are those that find the lesions: then their sums are the same.
        same = np.array_equal(bounds, ends) and np.array_equal(_by_segment(spared, bounds), _by_segment(owner, ends))
        self.spared = None if same else SegmentSums(spared, bounds)


def _by_segment(patient: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Patients of the events up to the last bound, sorted within each segment."""
    segment = np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))
    return patient[: bounds[-1]][np.lexsort((patient[: bounds[-1]], segment))]


class ApStatistic:
    """Average precision as a mean over several event sets (classes, hit thresholds), for patient weights.

    Args:
        groups: the numbers to give; each is the mean over its event sets of those that are defined.
        patient: (N,) patient of each image.
        interpolation: see ``ap_of_counts``.
    """

    def __init__(
        self, groups: Mapping[str, Sequence[FrocEvents | ApEvents]], patient: np.ndarray, interpolation: str
    ) -> None:
        self.keys = list(groups)
        self.interpolation = interpolation
        # Groups share event sets (AP contains AP50's): each is evaluated once.
        events = list({id(e): e for members in groups.values() for e in members}.values())
        number = {id(e): n for n, e in enumerate(events)}
        self._members = [[number[id(e)] for e in members] for members in groups.values()]
        ready = [plain_ap_events(e) if isinstance(e, FrocEvents) else e for e in events]
        self._sets = [_CountedSet(e, patient) for e in ready]
        # Sets on the same list take its sums at the scores of all of them.
        self._lists: list[tuple[SegmentSums, list[tuple[int, np.ndarray]]]] = []
        for listed in {id(e.listed): e.listed for e in ready}.values():
            mine = [n for n, e in enumerate(ready) if e.listed is listed]
            places = np.unique(np.concatenate([self._sets[n].positions for n in mine]))
            sums = SegmentSums(patient[listed.image], np.concatenate([[0], places]))
            self._lists.append((sums, [(n, np.searchsorted(places, self._sets[n].positions)) for n in mine]))

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) values for patient weights (M, b)."""
        values = self._values(weights)
        rows = []
        for members in self._members:
            chosen = values[members]
            defined = ~np.isnan(chosen)
            total, count = np.where(defined, chosen, 0.0).sum(axis=0), defined.sum(axis=0)
            rows.append(np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0))
        return np.stack(rows)

    def _values(self, weights: np.ndarray) -> np.ndarray:
        """(sets, b) average precision of each event set."""
        values = np.empty((len(self._sets), weights.shape[1]))
        for sums, members in self._lists:
            # Replicates first: running sums are made, and read, along the memory.
            running = np.cumsum(sums.sums(weights).T.astype(np.int64), axis=1)
            for n, rows in members:
                values[n] = self._of_set(self._sets[n], running, rows, weights)
        return values

    def _of_set(self, counted: _CountedSet, running: np.ndarray, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        units = counted.units.sums(weights)[0].astype(np.int64)
        found = counted.found.sums(weights)
        spared = None if counted.spared is None else counted.spared.sums(weights)
        parts = []
        for columns in replicate_parts(len(rows), len(units)):
            new = found[:, columns].astype(np.int64, "F")
            tp = np.cumsum(new, axis=0)
            accepted = np.take(running[columns], rows, axis=1).T
            if spared is not None:
                accepted = accepted + tp - np.cumsum(spared[:, columns].astype(np.int64, "F"), axis=0)
            parts.append(ap_of_counts(new, tp, accepted, units[columns], self.interpolation))
        return np.concatenate(parts)


def detection_average_precision(events: FrocEvents, interpolation: str) -> float:
    """Average precision of one event set in which every image counts once."""
    image = np.arange(len(events.counted))
    statistic = ApStatistic({"AP": [events]}, image, interpolation)
    return float(statistic.replicate(np.ones((len(image), 1), np.uint16))[0, 0])
