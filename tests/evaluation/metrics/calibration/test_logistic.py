"""Logistic regression against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from mammo_d2.evaluation.metrics.calibration.logistic import fit_logistic, logit, sigmoid


def test_against_scikit_learn():
    rng = np.random.default_rng(0)
    x = rng.normal(size=80)
    y = rng.random(80) < sigmoid(1.3 * x - 0.8)
    weights = rng.integers(0, 4, (80, 3))
    found = fit_logistic(np.column_stack([x, np.ones(80)]), y.astype(float), weights)
    for column in range(3):
        reference = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000)
        reference.fit(x[:, None], y, sample_weight=weights[:, column])
        np.testing.assert_allclose(found[:, column], [reference.coef_[0, 0], reference.intercept_[0]], atol=1e-4)


def test_intercept_alone_by_hand():
    # 3 of 4 positive: logit(3 / 4) = log 3; with an offset of 1 everywhere log 3 - 1.
    y = np.array([1.0, 1, 1, 0])
    assert fit_logistic(np.ones((4, 1)), y)[0, 0] == pytest.approx(np.log(3))
    assert fit_logistic(np.ones((4, 1)), y, offset=np.ones(4))[0, 0] == pytest.approx(np.log(3) - 1)


def test_no_maximum_is_nan():
    x = np.column_stack([[-2.0, -1, 1, 2], np.ones(4)])
    assert np.isnan(fit_logistic(x, np.array([0.0, 0, 1, 1]))).all()  # separated
    assert np.isnan(fit_logistic(x, np.zeros(4))).all()
    assert np.isnan(fit_logistic(np.ones((4, 2)), np.array([0.0, 1, 0, 1]))).all()  # columns alike


def test_far_ends():
    assert sigmoid(np.array([-800.0, 0, 800])).tolist() == [0, 0.5, 1]
    assert np.isfinite(logit(np.array([0.0, 1.0]))).all()
    assert sigmoid(logit(np.array([0.3]))) == pytest.approx(0.3)
