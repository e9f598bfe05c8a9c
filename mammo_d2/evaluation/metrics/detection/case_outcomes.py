"""What became of every detection and every lesion, and how many are right and wrong at chosen thresholds.

Naming: ``D`` detections and ``G`` lesions of the data, in their order; ``K`` thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import (
    FrocEvents,
    FrocRule,
    count_above,
    events_of,
    froc_candidates,
    hits_of,
    match_candidates,
)
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at
from mammo_d2.evaluation.metrics.detection.matching import best_lesion, pair_overlap
from mammo_d2.evaluation.metrics.tables import EvaluationData

#: hit: holds a lesion. extra: hits a lesion that another detection holds, and does not count. false: a false positive.
#: ignored: hits a finding that does not count. uncounted: in a crowd region, or an image whose false positives do not
#: count. other: of another class, or beyond the detections kept per image.
OUTCOMES = ("hit", "extra", "false", "ignored", "uncounted", "other")


@dataclass(frozen=True)
class CaseOutcomes:
    """Outcomes for one class.

    Attributes:
        outcome: (D,) index into ``OUTCOMES``.
        hit_lesion: (D,) the lesion that a detection holds, else the one that it hits best; -1 for none.
        in_class: (G,) bool, lesions that may be found (crowd regions and other classes may not).
        found_score: (G,) score of the detection that holds the lesion, -inf if none does.
        holder: (G,) that detection, -1 for none.
        iou: (G,) its intersection over union with the lesion, whatever the rule is; NaN if there is none.
        events: the same for a curve; equal to those of ``froc_events``.
    """

    outcome: np.ndarray
    hit_lesion: np.ndarray
    in_class: np.ndarray
    found_score: np.ndarray
    holder: np.ndarray
    iou: np.ndarray
    events: FrocEvents


@dataclass(frozen=True)
class ThresholdCounts:
    """Counts of one class at thresholds ("score >= threshold").

    Attributes:
        rate: (K,) the false-positive rate for which the threshold was chosen; NaN for a threshold that was given.
        threshold: (K,) +inf: accept nothing.
        found, missed: (K,) recall units (lesions, or what the rule counts).
        false_positives, fp_per_image: (K,); ``fp_per_image`` is NaN without a counted image.
        images_with_false: (K,) images with a false positive.
        sensitivity: (K,) NaN without a lesion.
        precision: (K,) found units over these and false positives, NaN where nothing is accepted.
    """

    rate: np.ndarray
    threshold: np.ndarray
    found: np.ndarray
    missed: np.ndarray
    false_positives: np.ndarray
    fp_per_image: np.ndarray
    images_with_false: np.ndarray
    sensitivity: np.ndarray
    precision: np.ndarray


def case_outcomes(data: EvaluationData, rule: FrocRule, label: int | None) -> CaseOutcomes:
    """Match a class's detections and lesions, and say what became of each.

    Args:
        data: images, lesions and detections.
        rule: as for ``froc_events``.
        label: class number; None: all classes.
    """
    candidates = froc_candidates(data, rule, label)
    hits = hits_of(candidates, rule)
    match = match_candidates(candidates, rule, hits)
    pairs, rows = hits
    found, targets = candidates.found, candidates.targets
    best = best_lesion(pairs, len(found), targets.boxes[rows])
    hit = np.where(best >= 0, np.append(rows, -1)[best], -1)
    held = match.holder >= 0
    # A detection keeps the lesion that it hits best if it holds that one, else the last that it holds.
    detection = np.flatnonzero(hit >= 0)
    keeps = np.zeros(len(found), bool)
    keeps[detection] = match.holder[hit[detection]] == detection
    other = held & ~np.append(keeps, False)[match.holder]
    hit[match.holder[other]] = np.flatnonzero(other)

    holds = np.zeros(len(found), bool)
    holds[match.holder[held & ~targets.ignore]] = True
    outcome = np.full(len(found), OUTCOMES.index("uncounted"))
    outcome[match.touches & ~match.right] = OUTCOMES.index("extra")
    outcome[match.right] = OUTCOMES.index("ignored")
    outcome[match.wrong] = OUTCOMES.index("false")
    outcome[holds] = OUTCOMES.index("hit")

    all_outcomes = np.full(len(data.detections), OUTCOMES.index("other"))
    all_outcomes[candidates.row] = outcome
    hit_lesion = np.full(len(data.detections), -1, np.int64)
    hit_lesion[candidates.row] = np.where(hit >= 0, np.append(candidates.target_row, -1)[hit], -1)
    lesions = len(data.lesions)
    in_class = np.zeros(lesions, bool)
    in_class[candidates.target_row] = True
    holder, score, iou = np.full(lesions, -1, np.int64), np.full(lesions, -np.inf), np.full(lesions, np.nan)
    mine = candidates.target_row[held]
    holder[mine] = candidates.row[match.holder[held]]
    score[mine] = found.scores[match.holder[held]]
    iou[mine] = pair_overlap("iou", found.boxes[match.holder[held]], targets.boxes[held])
    events = events_of(data, candidates, match, rule)
    return CaseOutcomes(all_outcomes, hit_lesion, in_class, score, holder, iou, events)


def threshold_counts(events: FrocEvents, thresholds: Sequence[float], rates: Sequence[float]) -> ThresholdCounts:
    """Counts at given thresholds, and at the thresholds for given false positives per image.

    Args:
        events: of one class, from ``case_outcomes`` or ``froc_events``.
        thresholds: scores; a detection of that score is accepted.
        rates: for each the lowest threshold that does not exceed it, as in a FROC curve by steps.
    """
    points = sensitivity_at(froc_curve(events), tuple(rates), "step", "hold")
    chosen = np.array([*thresholds, *(point.threshold for point in points)], float)
    found = count_above(events.unit_scores, chosen, True)
    false = count_above(events.fp_scores, chosen, True)
    # By falling score the first false positive of an image decides from which threshold on it has one.
    worst = np.full(len(events.counted), -np.inf)
    np.maximum.at(worst, events.fp_image, events.fp_scores)
    units, images = len(events.unit_scores), int(events.counted.sum())
    with np.errstate(divide="ignore", invalid="ignore"):
        return ThresholdCounts(
            rate=np.array([*[np.nan] * len(thresholds), *rates], float),
            threshold=chosen,
            found=found,
            missed=units - found,
            false_positives=false,
            fp_per_image=false / np.array(images, float),
            images_with_false=np.array([int((worst >= t).sum()) if np.isfinite(t) else 0 for t in chosen], np.int64),
            sensitivity=found / np.array(units, float),
            precision=found / (found + false),
        )
