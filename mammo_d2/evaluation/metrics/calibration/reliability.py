"""Reliability diagram: observed rate against probability, with a band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.calibration.calibration_error import equal_mass_bins
from mammo_d2.evaluation.metrics.comparison.proportions import clustered_proportion


@dataclass(frozen=True)
class ReliabilityDiagram:
    """Points of the diagram: ``mean`` probability, observed ``rate``, its ``low`` and ``high`` limits and ``count`` of
    cases, each (J,)."""

    mean: np.ndarray
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray
    count: np.ndarray


def reliability_diagram(
    truth: np.ndarray,
    scores: np.ndarray,
    patient: np.ndarray | None = None,
    bins: int = 10,
    confidence: float = 0.95,
) -> ReliabilityDiagram:
    """Observed rates of bins of equal mass with Korn & Graubard's intervals, which heed several cases of a patient.

    Args:
        truth, scores: (n,), probabilities.
        patient: (n,); None treats cases as independent (then the intervals are Clopper & Pearson's).
        bins: at most.
        confidence: of each point's interval, not of all at once.
    """
    found = equal_mass_bins(truth, scores, bins)
    y = np.asarray(truth, float)
    cluster = np.arange(len(y)) if patient is None else np.asarray(patient)
    limits = [
        clustered_proportion(y[found.bin == j], cluster[found.bin == j], confidence) for j in range(len(found.count))
    ]
    return ReliabilityDiagram(
        found.mean,
        found.rate,
        np.array([limit.low for limit in limits]),
        np.array([limit.high for limit in limits]),
        found.count,
    )
