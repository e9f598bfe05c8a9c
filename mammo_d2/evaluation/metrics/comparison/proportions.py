"""A proportion of cases that come in clusters (several images or lesions of a patient), with its interval."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Proportion:
    """``value`` with limits; ``effective`` is how many independent cases would tell as much."""

    value: float
    low: float
    high: float
    effective: float


def exact_interval(successes: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper & Pearson's interval (1934), by quantiles of the beta distribution; it covers at least as often as it
    says. Fractions of cases are allowed. NaN for no cases."""
    if total <= 0:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low = float(stats.beta.ppf(tail, successes, total - successes + 1)) if successes > 0 else 0.0
    high = float(stats.beta.ppf(1 - tail, successes + 1, total - successes)) if successes < total else 1.0
    return low, high


def clustered_proportion(hits: np.ndarray, cluster: np.ndarray | None = None, confidence: float = 0.95) -> Proportion:
    """Proportion with Korn & Graubard's interval.

    Formula: variance of the ratio between clusters ``C / (C - 1) sum_c (h_c - p n_c)² / n²``; effective number
    ``p (1 - p) / variance``, at most n, times ``(t(n - 1) / t(C - 1))²``; then Clopper & Pearson's interval.
    Independent cases get Clopper & Pearson's; where all or no cases hit, the effective number is C.

    Source: Korn & Graubard 1998 (the interval of the U.S. National Center for Health Statistics for rare conditions).

    Args:
        hits: (n,) 0 or 1.
        cluster: (n,) patient of each case; None treats cases as independent.
        confidence: of the interval.
    """
    h = np.asarray(hits, float)
    n = len(h)
    if not n:
        nan = float("nan")
        return Proportion(nan, nan, nan, nan)
    p = float(h.mean())
    effective = float(n)
    if cluster is not None:
        numbers = np.unique(cluster, return_inverse=True)[1]
        size = np.bincount(numbers)
        clusters = len(size)
        if clusters < n:
            residual = np.bincount(numbers, h) - p * size
            variance = clusters / (clusters - 1) * float((residual**2).sum()) / n**2 if clusters > 1 else 0.0
            effective = float(clusters)
            if variance > 0 and 0 < p < 1:
                t = stats.t.ppf((1 + confidence) / 2, [n - 1, clusters - 1])
                effective = min(p * (1 - p) / variance, float(n)) * float(t[0] / t[1]) ** 2
    low, high = exact_interval(p * effective, effective, confidence)
    return Proportion(p, low, high, effective)
