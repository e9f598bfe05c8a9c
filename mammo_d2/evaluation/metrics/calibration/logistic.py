"""Logistic regression with few parameters for many weightings of the same cases at once."""

from __future__ import annotations

import numpy as np

#: Probabilities are moved this far from 0 and 1 before their logit is taken.
SMALLEST_PROBABILITY = 1e-7
_STEPS, _LARGEST = 50, 30.0


def logit(probabilities: np.ndarray) -> np.ndarray:
    """``log(p / (1 - p))`` of probabilities, which are cut to [1e-7, 1 - 1e-7]."""
    p = np.clip(np.asarray(probabilities, float), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    return np.log(p) - np.log1p(-p)


def sigmoid(values: np.ndarray) -> np.ndarray:
    """``1 / (1 + exp(-x))`` without overflow."""
    return (1 + np.tanh(np.asarray(values, float) / 2)) / 2


def fit_logistic(
    design: np.ndarray, targets: np.ndarray, weights: np.ndarray | None = None, offset: np.ndarray | None = None
) -> np.ndarray:
    """Maximum likelihood of ``P = sigmoid(design @ beta + offset)`` by Newton's method.

    Args:
        design: (n, k) with one or two columns.
        targets: (n,) in [0, 1]; fractions are allowed.
        weights: (n, b) how often each case counts; None is one column of ones.
        offset: (n,) added to the linear predictor.

    Returns:
        (k, b); NaN where there is no maximum (a class is empty or the classes can be separated).
    """
    n, k = design.shape
    w = np.ones((n, 1)) if weights is None else np.asarray(weights, float)
    fixed = np.zeros(n) if offset is None else offset
    out = np.full((k, w.shape[1]), np.nan)
    for column in range(w.shape[1]):
        used = w[:, column] > 0
        out[:, column] = _fit(design[used], targets[used], w[used, column], fixed[used])
    return out


def _fit(design: np.ndarray, targets: np.ndarray, weights: np.ndarray, offset: np.ndarray) -> np.ndarray:
    beta = np.zeros(design.shape[1])
    undefined = np.full(len(beta), np.nan)
    if not len(targets) or not 0 < weights @ targets < weights.sum():
        return undefined
    # Centred and scaled columns keep the steps small; what was done is undone below.
    scale = np.maximum(np.abs(design).max(axis=0), 1e-12)
    x = design / scale
    loss = _loss(x @ beta + offset, targets, weights)
    for _ in range(_STEPS):
        p = sigmoid(x @ beta + offset)
        gradient = x.T @ (weights * (targets - p))
        curvature = (x * (weights * p * (1 - p))[:, None]).T @ x
        try:
            step = np.linalg.solve(curvature, gradient)
        except np.linalg.LinAlgError:
            return undefined
        length = 1.0
        while length > 1e-6 and _loss(x @ (beta + length * step) + offset, targets, weights) > loss + 1e-12:
            length /= 2
        beta = beta + length * step
        loss = _loss(x @ beta + offset, targets, weights)
        if np.abs(x @ beta).max() > 10 * _LARGEST:
            return undefined  # the classes can be separated: the slope grows without end
        if np.abs(length * step).max() <= 1e-10 * (1 + np.abs(beta).max()):
            return beta / scale
    return undefined


def _loss(predictor: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> float:
    return float(weights @ (np.logaddexp(0, predictor) - targets * predictor))
