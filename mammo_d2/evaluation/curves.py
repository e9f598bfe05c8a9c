"""ROC curves and the areas under them, from binary truth and scores (numpy only).

Naming: ``y`` (n,) truth in {0, 1}; ``s`` (n,) scores, higher means more likely positive; ``w`` (n,) how often each case
counts. ``P`` and ``N`` are the (weighted) numbers of positive and negative cases. Truth of NaN (unknown) must be masked
by the caller, see :func:`mammo_d2.evaluation.classification.mask_unknown`. A result that is not defined is NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def check_scores(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth as bool and scores as float64, both (n,).

    Raises:
        ValueError: lengths differ, truth outside {0, 1}, or a score is NaN.
    """
    truth, scores = np.asarray(truth), np.asarray(scores, float)
    if truth.shape != scores.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and scores {scores.shape}: two lists of one length are needed")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("truth has values other than 0 and 1; mask unknown labels first")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} score(s) are NaN")
    return truth.astype(bool), scores


@dataclass(frozen=True)
class RocCurve:
    """Operating points by falling threshold ("positive" means score >= threshold), from (0, 0) to (1, 1).

    ``thresholds``, ``tpr`` (sensitivity) and ``fpr`` (1 - specificity) are (K,) float64; the first threshold is +inf.
    ``positives`` and ``negatives`` are the (weighted) case counts.
    """

    thresholds: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray
    positives: float
    negatives: float


def roc_curve(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> RocCurve:
    """The empirical ROC curve, one point per distinct score.

    Source: Fawcett 2006. The points are scikit-learn's ``roc_curve(drop_intermediate=False)``; equal scores make one
    slanted segment rather than an order-dependent staircase.
    """
    y, s = check_scores(truth, scores)
    w = np.ones(len(y)) if weights is None else np.asarray(weights, float)
    order = np.argsort(-s, kind="stable")
    ordered = s[order]
    last = np.flatnonzero(np.r_[ordered[1:] != ordered[:-1], True]) if len(s) else np.zeros(0, np.int64)
    tp = np.concatenate([[0.0], np.cumsum((w * y)[order])[last]])
    fp = np.concatenate([[0.0], np.cumsum((w * ~y)[order])[last]])
    with np.errstate(invalid="ignore"):
        return RocCurve(np.concatenate([[np.inf], ordered[last]]), tp / tp[-1], fp / fp[-1], tp[-1], fp[-1])


def roc_auc(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve = P(score of a positive > score of a negative) + P(equal) / 2.

    Formula: trapezoids over the ROC points, equal to the Mann-Whitney statistic (Hanley & McNeil 1982), scikit-learn's
    ``roc_auc_score``. Differs from a binormal fitted area and from the convex-hull area, which are never smaller.

    Returns:
        The area, NaN if a class is empty.
    """
    curve = roc_curve(truth, scores, weights)
    return float(np.sum(np.diff(curve.fpr) * (curve.tpr[1:] + curve.tpr[:-1]) / 2))
