"""Calibration errors: by hand, against scikit-learn, and what debiasing does to a perfect model."""

import numpy as np
import pytest
from sklearn.metrics import brier_score_loss

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.calibration.calibration_error import (
    CALIBRATION_KEYS,
    CalibrationStatistic,
    brier_score,
    equal_mass_bins,
    expected_calibration_error,
    root_mean_square_calibration_error,
)
from mammo_d2.evaluation.metrics.calibration.logistic import logit, sigmoid

TRUTH = np.array([0, 0, 1, 0, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])


def numbers(truth, scores):
    statistic = CalibrationStatistic(truth, scores, np.arange(len(truth)))
    return dict(zip(CALIBRATION_KEYS, estimate(statistic, len(truth)), strict=True))


def test_by_hand():
    assert brier_score(TRUTH, SCORES) == pytest.approx((0.01 + 0.04 + 0.49 + 0.36 + 0.09 + 0.01) / 6)
    bins = equal_mass_bins(TRUTH, SCORES, 2)  # means 0.2 and 0.7333, rates 1/3 and 2/3
    assert bins.count.tolist() == [3, 3]
    assert expected_calibration_error(bins) == pytest.approx((abs(0.2 - 1 / 3) + abs(2.2 / 3 - 2 / 3)) / 2)
    squares = (0.2 - 1 / 3) ** 2 + (2.2 / 3 - 2 / 3) ** 2 - 2 * (2 / 9) / 2
    assert root_mean_square_calibration_error(bins) == max(squares, 0)  # below 0: no error is shown


def test_brier_as_scikit_learn():
    rng = np.random.default_rng(1)
    truth, scores = rng.random(50) < 0.3, rng.random(50)
    assert brier_score(truth, scores) == pytest.approx(brier_score_loss(truth, scores))


def test_equal_probabilities_share_a_bin():
    bins = equal_mass_bins(np.array([0, 1, 0, 1]), np.array([0.5, 0.5, 0.5, 0.9]), 4)
    assert bins.bin.tolist() == [0, 0, 0, 1]
    order = np.random.default_rng(0).permutation(6)
    mixed = equal_mass_bins(TRUTH[order], SCORES[order], 3)
    np.testing.assert_array_equal(mixed.bin, equal_mass_bins(TRUTH, SCORES, 3).bin[order])
    assert equal_mass_bins(TRUTH, SCORES, 3).count.tolist() == [2, 2, 2]


def test_debiasing_by_drawing():
    """The computed bias is that of rates drawn from the normal distribution, as Kumar et al. draw them."""
    rng = np.random.default_rng(4)
    truth, scores = rng.random(200) < 0.25, rng.random(200) * 0.5
    bins = equal_mass_bins(truth, scores, 10)
    spread = np.sqrt(bins.rate * (1 - bins.rate) / bins.count)
    drawn = np.abs(bins.mean - rng.normal(bins.rate, spread, (20000, len(spread)))) @ (bins.count / 200)
    plain = expected_calibration_error(bins)
    assert expected_calibration_error(bins, debiased=True) == pytest.approx(2 * plain - drawn.mean(), abs=1e-3)


def test_debiasing_a_perfect_model():
    rng = np.random.default_rng(0)
    plain, corrected, root = [], [], []
    for _ in range(60):
        scores = rng.beta(1, 8, 300)
        bins = equal_mass_bins(rng.random(300) < scores, scores)
        plain.append(expected_calibration_error(bins))
        corrected.append(expected_calibration_error(bins, debiased=True))
        root.append(root_mean_square_calibration_error(bins))
    assert np.mean(plain) > 0.035
    assert np.mean(corrected) < 0.7 * np.mean(plain)
    assert np.mean(root) < 0.035


def test_slope_and_intercept():
    """Scores made too extreme by 2 and shifted by 0.7 have slope 1/2; recalibrated ones have 1 and 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(-1, 1, 4000)
    truth = rng.random(4000) < sigmoid(x)
    values = numbers(truth, sigmoid(2 * x))
    assert values["slope"] == pytest.approx(0.5, abs=0.05)
    low = numbers(truth, sigmoid(x - 0.7))
    assert low["intercept"] == pytest.approx(0.7, abs=0.1)
    assert low["slope"] == pytest.approx(1, abs=0.1)
    assert low["expected_over_observed"] < 0.8
    # The intercept solves sum(p) = sum(y).
    shifted = sigmoid(logit(sigmoid(x - 0.7)) + low["intercept"])
    assert shifted.sum() == pytest.approx(truth.sum())


def test_weights_are_copies():
    rng = np.random.default_rng(2)
    truth, scores = rng.random(40) < 0.4, rng.random(40)
    patient = np.arange(40) // 2
    weights = rng.integers(0, 3, (20, 2))
    found = CalibrationStatistic(truth, scores, patient, 5).replicate(weights)
    for column in range(2):
        rows = np.repeat(np.arange(40), weights[patient, column])
        copied = CalibrationStatistic(truth[rows], scores[rows], np.arange(len(rows)), 5)
        np.testing.assert_allclose(found[:, column], estimate(copied, len(rows)), atol=1e-7)


def test_undefined_and_errors():
    assert np.isnan(estimate(CalibrationStatistic(np.zeros(3), np.full(3, 0.2), np.arange(3)), 3)).all()
    with pytest.raises(ValueError, match=r"1 score\(s\) are no probabilities, e.g. 3: calibration needs"):
        brier_score(np.array([0, 1]), np.array([0.5, 3]))
    with pytest.raises(ValueError, match="0 bins"):
        equal_mass_bins(TRUTH, SCORES, 0)
