"""Temperature and Platt scaling: fitted on one set of cases, applied to another."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mammo_d2.evaluation.metrics.calibration.calibration_error import check_probabilities
from mammo_d2.evaluation.metrics.calibration.logistic import fit_logistic, logit, sigmoid

SCALINGS = ("temperature", "platt")


@dataclass(frozen=True)
class Recalibration:
    """``sigmoid(slope * logit(p) + intercept)``; temperature scaling has intercept 0 and slope 1 / T.

    A rising map: ranks, AUC and FROC stay the same while the slope is positive.
    """

    kind: str
    slope: float
    intercept: float = 0.0

    def apply(self, scores: np.ndarray) -> np.ndarray:
        """Probabilities of the same shape; NaN (no score) stays NaN."""
        return sigmoid(self.slope * logit(scores) + self.intercept)

    @property
    def temperature(self) -> float:
        return 1 / self.slope

    def as_dict(self) -> dict[str, Any]:
        """As it is written to a file."""
        return asdict(self)


def fit_recalibration(truth: np.ndarray, scores: np.ndarray, kind: str) -> Recalibration:
    """Fit a scaling by maximum likelihood.

    Formula: "temperature": one number T, ``sigmoid(logit(p) / T)`` (Guo et al. 2017); it cannot correct a wrong
    prevalence. "platt": slope and intercept, with the targets ``(N+ + 1) / (N+ + 2)`` and ``1 / (N- + 2)`` in place of
    1 and 0 (Platt 1999; Lin, Lin & Weng 2007), so that separable classes have a finite fit. Fit on validation cases:
    fitted on the test set, the test set's calibration means nothing.

    Args:
        truth, scores: (n,), probabilities.
        kind: of ``SCALINGS``.

    Raises:
        ValueError: another kind, scores that are no probabilities, a class without cases, separable classes
            (temperature), or scores that do not rise with the truth.
    """
    if kind not in SCALINGS:
        raise ValueError(f"scaling {kind!r} is none of {', '.join(SCALINGS)}")
    y, p = check_probabilities(truth, scores)
    positives, negatives = int(y.sum()), int((~y).sum())
    if not positives or not negatives:
        raise ValueError(f"{kind} scaling: {positives} positive and {negatives} negative cases; both are needed")
    x = logit(p)
    if kind == "platt":
        targets = np.where(y, (positives + 1) / (positives + 2), 1 / (negatives + 2))
        slope, intercept = fit_logistic(np.column_stack([x, np.ones(len(x))]), targets)[:, 0]
    else:
        slope, intercept = fit_logistic(x[:, None], y.astype(float))[0, 0], 0.0
    if not np.isfinite(slope):
        raise ValueError(
            f"{kind} scaling has no finite fit: the scores separate the classes or are all equal; use more cases"
            + ("" if kind == "platt" else ", or platt")
        )
    if slope <= 0:
        raise ValueError(f"{kind} scaling: slope {slope:.3g}: scores do not rise with the truth; are classes swapped?")
    return Recalibration(kind, float(slope), float(intercept))
