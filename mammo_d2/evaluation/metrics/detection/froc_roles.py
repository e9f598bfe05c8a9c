"""What each box and each lesion is to a FROC curve, for pictures: the events of ``froc.py`` one by one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import (
    FrocEvents,
    FrocRule,
    events_of,
    froc_candidates,
    match_candidates,
)
from mammo_d2.evaluation.metrics.tables import EvaluationData


@dataclass(frozen=True)
class FrocRoles:
    """What each detection and each lesion is to a FROC curve, whatever the threshold.

    Attributes:
        is_false: (D,) bool, false positives of the curve.
        is_hit: (D,) bool, detections with which the curve counts a lesion as found. The others are neither.
        found_at: (G,) float64, score at which each lesion is found; -inf for one that never is, NaN for one that the
            curve does not count (of another class, crowd, ``ignore``).
        events: the same, for the curve.
    """

    is_false: np.ndarray
    is_hit: np.ndarray
    found_at: np.ndarray
    events: FrocEvents


def froc_roles(data: EvaluationData, rule: FrocRule, label: int | None = None) -> FrocRoles:
    """The roles behind ``froc_events`` of the same arguments."""
    candidates = froc_candidates(data, rule, label)
    match = match_candidates(candidates, rule)
    is_false, is_hit = np.zeros((2, len(data.detections)), bool)
    is_false[candidates.row[match.wrong]] = True
    real = ~candidates.targets.ignore
    holder = match.holder[real]
    is_hit[candidates.row[holder[holder >= 0]]] = True
    found_at = np.full(len(data.lesions), np.nan)
    found_at[candidates.target_row[real]] = np.append(candidates.found.scores, -np.inf)[holder]
    return FrocRoles(is_false, is_hit, found_at, events_of(data, candidates, match, rule))
