"""Errors of scores taken as probabilities: Brier score, expected calibration error, calibration slope and intercept.

Naming: ``n`` cases with probability ``p`` and truth ``y``; ``b`` replicates; bins have ``n_j`` cases, mean probability
``p_j`` and observed rate ``y_j``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from mammo_d2.evaluation.metrics.calibration.logistic import fit_logistic, logit
from mammo_d2.evaluation.metrics.scores.curves import check_scores

CALIBRATION_KEYS = ("brier", "scaled_brier", "ece", "ece_debiased", "slope", "intercept", "expected_over_observed")


def check_probabilities(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth as bool and probabilities as float64, both (n,).

    Raises:
        ValueError: as ``check_scores``, or a score outside [0, 1].
    """
    y, p = check_scores(truth, scores)
    outside = p[(p < 0) | (p > 1)]
    if len(outside):
        raise ValueError(
            f"{len(outside)} score(s) are no probabilities, e.g. {outside[0]:g}: calibration needs scores from 0 to 1"
        )
    return y, p


@dataclass(frozen=True)
class CalibrationBins:
    """Bins of about equal numbers of cases, by rising probability; equal probabilities share a bin.

    Attributes:
        bin: (n,) bin of each case.
        count, mean, rate: (J,) cases, mean probability and observed rate of each bin.
    """

    bin: np.ndarray
    count: np.ndarray
    mean: np.ndarray
    rate: np.ndarray


def equal_mass_bins(truth: np.ndarray, scores: np.ndarray, bins: int = 15) -> CalibrationBins:
    """Put cases in bins of equal mass; fewer bins where many probabilities are equal.

    Args:
        truth, scores: (n,), probabilities.
        bins: J at most.

    Raises:
        ValueError: fewer than one bin, or no probabilities.
    """
    if bins < 1:
        raise ValueError(f"calibration: {bins} bins; at least 1 is needed")
    y, p = check_probabilities(truth, scores)
    number = _bin_numbers(p, bins)
    count = np.bincount(number)
    mean = np.bincount(number, p) / np.maximum(count, 1)
    rate = np.bincount(number, y) / np.maximum(count, 1)
    return CalibrationBins(number, count, mean, rate)


def _bin_numbers(p: np.ndarray, bins: int) -> np.ndarray:
    """(n,) dense bin numbers: a case of rank r of n belongs to bin floor(J r / n), a group of equals to its first's."""
    if not len(p):
        return np.zeros(0, np.int64)
    values, first = np.unique(np.sort(p), return_index=True)
    start = first[np.searchsorted(values, p)]
    return np.unique(bins * start // len(p), return_inverse=True)[1]


def expected_calibration_error(bins: CalibrationBins, *, debiased: bool = False) -> float:
    """Mean distance of probability and observed rate over bins.

    Formula: ``ECE = sum_j n_j / n |p_j - y_j|``. It is too large in small samples, for a perfect model too. Debiased:
    minus the mean by which it grows when the rates ``y_j`` are drawn again from a normal distribution of variance
    ``y_j (1 - y_j) / n_j`` (computed, not drawn: the mean of a folded normal), and not below 0. Source: Naeini et al.
    2015 (with bins of equal width); Kumar, Liang & Ma 2019 for the correction.
    """
    gap, share = np.abs(bins.mean - bins.rate), bins.count / max(bins.count.sum(), 1)
    plain = float(share @ gap)
    if not debiased:
        return plain if len(share) else float("nan")
    spread = np.sqrt(bins.rate * (1 - bins.rate) / np.maximum(bins.count, 1))
    z = np.divide(gap, spread, out=np.zeros_like(gap), where=spread > 0)
    drawn = np.where(spread > 0, spread * (2 * stats.norm.pdf(z) + z * (2 * stats.norm.cdf(z) - 1)), gap)
    return max(plain - (float(share @ drawn) - plain), 0.0) if len(share) else float("nan")


def root_mean_square_calibration_error(bins: CalibrationBins) -> float:
    """Debiased L2 calibration error: ``sqrt(max(0, sum_j n_j / n ((p_j - y_j)² - y_j (1 - y_j) / (n_j - 1))))``.

    Source: Kumar, Liang & Ma 2019, the estimator whose bias vanishes; bins of one case are left uncorrected.
    """
    bias = bins.rate * (1 - bins.rate) / np.maximum(bins.count - 1, 1)
    share = bins.count / max(bins.count.sum(), 1)
    return float(np.sqrt(max(float(share @ ((bins.mean - bins.rate) ** 2 - bias)), 0.0)))


def brier_score(truth: np.ndarray, scores: np.ndarray) -> float:
    """Mean squared distance of probability and truth (Brier 1950), scikit-learn's ``brier_score_loss``."""
    y, p = check_probabilities(truth, scores)
    return float(((p - y) ** 2).mean()) if len(p) else float("nan")


class CalibrationStatistic:
    """The numbers of ``CALIBRATION_KEYS`` for patient weights (see ``bootstrap.py``).

    * ``brier``: mean squared error; ``scaled_brier``: 1 minus its ratio to that of the constant prevalence, 0 for a
      useless and 1 for a perfect model (Steyerberg 2010);
    * ``ece``, ``ece_debiased``: see ``expected_calibration_error``, the bins made anew in every replicate;
    * ``slope``: of the truth's logistic regression on ``logit(p)``, below 1 if scores are too extreme (Cox 1958);
    * ``intercept``: of the same regression with the slope held at 1, above 0 if scores are too low;
    * ``expected_over_observed``: sum of probabilities over the number of positives.

    Args:
        truth, scores: (n,), probabilities.
        patient: (n,) patient of each case.
        bins: of the calibration error.

    Raises:
        ValueError: scores that are no probabilities.
    """

    keys: Sequence[str] = CALIBRATION_KEYS

    def __init__(self, truth: np.ndarray, scores: np.ndarray, patient: np.ndarray, bins: int = 15) -> None:
        self._y, self._p = check_probabilities(truth, scores)
        self._patient, self._bins = patient, bins

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) numbers for patient weights (M, b)."""
        drawn = np.asarray(weights)[self._patient]
        return np.stack([self._numbers(drawn[:, c]) for c in range(drawn.shape[1])], axis=1)

    def _numbers(self, weights: np.ndarray) -> np.ndarray:
        y, p = np.repeat(self._y, weights), np.repeat(self._p, weights)
        if not len(y) or not 0 < y.sum() < len(y):
            return np.full(len(self.keys), np.nan)
        brier = float(((p - y) ** 2).mean())
        prevalence = float(y.mean())
        bins = equal_mass_bins(y, p, self._bins)
        # A replicate holds cases several times: counted once each they give the same fit at less cost.
        used = weights > 0
        x, target, counts = logit(self._p[used]), self._y[used].astype(float), weights[used][:, None]
        ones = np.ones((len(x), 1))
        slope = fit_logistic(np.column_stack([x, ones]), target, counts)[0, 0]
        intercept = fit_logistic(ones, target, counts, offset=x)[0, 0]
        return np.array(
            [
                brier,
                1 - brier / (prevalence * (1 - prevalence)),
                expected_calibration_error(bins),
                expected_calibration_error(bins, debiased=True),
                slope,
                intercept,
                float(p.sum() / y.sum()),
            ]
        )
