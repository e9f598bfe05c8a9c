"""Variance, confidence interval and paired test of the AUC without resampling (DeLong; Obuchowski for clusters)."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from mammo_d2.evaluation.metrics.scores.curves import check_scores


@dataclass(frozen=True)
class AucInterval:
    """An AUC with its standard error and confidence limits; ``reason`` says why limits are NaN."""

    auc: float
    error: float
    low: float
    high: float
    reason: str = ""


@dataclass(frozen=True)
class AucComparison:
    """Difference of two AUCs on the same cases (first minus second), standard error, z, two-sided p, limits."""

    difference: float
    error: float
    z: float
    p: float
    low: float
    high: float


def midranks(values: np.ndarray) -> np.ndarray:
    """(n,) ranks from 1, the mean rank for equal values."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def placements(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Placement values: for each positive the part of negatives it beats, for each negative the part of positives that
    beat it (ties count half). Both have the AUC as their mean. Sun & Xu 2014: by ranks, in n log n."""
    pos, neg = scores[truth], scores[~truth]
    ranks = midranks(np.concatenate([pos, neg]))
    v10 = (ranks[: len(pos)] - midranks(pos)) / len(neg)
    v01 = 1 - (ranks[len(pos) :] - midranks(neg)) / len(pos)
    return v10, v01


def _residuals(truth: np.ndarray, scores: np.ndarray, cluster: np.ndarray, count: int) -> tuple[float, np.ndarray]:
    """AUC, and (2, clusters) sums of placement residuals of positives and of negatives over each cluster."""
    v10, v01 = placements(truth, scores)
    auc = float(v10.mean())
    sums = (
        np.bincount(cluster[truth], weights=v10 - auc, minlength=count),
        np.bincount(cluster[~truth], weights=v01 - auc, minlength=count),
    )
    return auc, np.stack(sums)


def _covariance(a: np.ndarray, b: np.ndarray, truth: np.ndarray, cluster: np.ndarray) -> float:
    """Obuchowski's covariance of two AUCs from cluster sums ``a`` and ``b`` (2, clusters)."""
    m, n = int(truth.sum()), int((~truth).sum())
    total = a.shape[1]
    with_pos, with_neg = len(np.unique(cluster[truth])), len(np.unique(cluster[~truth]))
    s10 = with_pos / ((with_pos - 1) * m) * float(a[0] @ b[0])
    s01 = with_neg / ((with_neg - 1) * n) * float(a[1] @ b[1])
    s11 = total / (total - 1) * float(a[0] @ b[1] + a[1] @ b[0])
    return s10 / m + s01 / n + s11 / (m * n)


def _prepare(truth: np.ndarray, scores: np.ndarray, cluster: np.ndarray | None):
    y, s = check_scores(truth, scores)
    numbers = np.arange(len(y)) if cluster is None else np.unique(cluster, return_inverse=True)[1]
    return y, s, numbers, int(numbers.max()) + 1 if len(numbers) else 0


def _too_few(y: np.ndarray, cluster: np.ndarray) -> str:
    for name, mask in (("positive", y), ("negative", ~y)):
        if len(np.unique(cluster[mask])) < 2:
            return f"fewer than two clusters with a {name} case"
    return ""


def delong_interval(
    truth: np.ndarray, scores: np.ndarray, cluster: np.ndarray | None = None, confidence: float = 0.95
) -> AucInterval:
    """Normal confidence interval of the AUC, cut at 0 and 1.

    Source: DeLong, DeLong & Clarke-Pearson 1988 for independent cases; Obuchowski 1997 where cases come in clusters
    (several images of one patient), to which DeLong's formula is the special case of clusters of one. Ignoring the
    clusters understates the error. Differs from Hanley & McNeil 1982, which assumes exponential scores.

    Args:
        truth, scores: (n,).
        cluster: (n,) patient numbers; None treats cases as independent.
        confidence: in (0, 1).
    """
    y, s, numbers, count = _prepare(truth, scores, cluster)
    nan = float("nan")
    if not y.any() or y.all():
        return AucInterval(nan, nan, nan, nan, "AUC needs positive and negative cases")
    if reason := _too_few(y, numbers):
        return AucInterval(float(placements(y, s)[0].mean()), nan, nan, nan, reason)
    auc, sums = _residuals(y, s, numbers, count)
    error = max(_covariance(sums, sums, y, numbers), 0.0) ** 0.5
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return AucInterval(auc, error, max(auc - half, 0.0), min(auc + half, 1.0))


def delong_test(
    truth: np.ndarray,
    scores: np.ndarray,
    other: np.ndarray,
    cluster: np.ndarray | None = None,
    confidence: float = 0.95,
) -> AucComparison:
    """Paired test of two AUCs on the same cases (sources as ``delong_interval``).

    Formula: ``z = (A1 - A2) / sqrt(var A1 + var A2 - 2 cov)``, p two-sided from the normal distribution. If the scores
    rank the cases alike the error is 0: then p is 1 for equal AUCs.

    Raises:
        ValueError: fewer than two clusters with a positive or with a negative case.
    """
    y, s, numbers, count = _prepare(truth, scores, cluster)
    t = check_scores(truth, other)[1]
    if reason := _too_few(y, numbers):
        raise ValueError(f"paired AUC test: {reason}")
    first, a = _residuals(y, s, numbers, count)
    second, b = _residuals(y, t, numbers, count)
    difference = first - second
    error = max(_covariance(a - b, a - b, y, numbers), 0.0) ** 0.5
    if error > 0:
        z = difference / error
    else:
        z = 0.0 if difference == 0 else float("inf") * np.sign(difference)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return AucComparison(
        difference, error, float(z), 2 * NormalDist().cdf(-abs(z)), difference - half, difference + half
    )


def wilson_interval(successes: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a proportion (1927), for sensitivity, specificity and accuracy at a fixed threshold.

    Unlike the normal ("Wald") interval it stays in [0, 1] and does not shrink to a point at 0 or 1; it is narrower than
    Clopper-Pearson's, which guarantees its coverage. Cases must be independent: use the bootstrap for several cases
    of one patient. NaN for no cases.
    """
    if total <= 0:
        return float("nan"), float("nan")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate = successes / total
    centre = (rate + z * z / (2 * total)) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (rate * (1 - rate) / total + z * z / (4 * total * total)) ** 0.5
    low = 0.0 if successes == 0 else max(centre - half, 0.0)
    high = 1.0 if successes == total else min(centre + half, 1.0)
    return low, high
