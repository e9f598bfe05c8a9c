"""Temperature and Platt scaling against scikit-learn, and from one set to another."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.calibration import CalibratedClassifierCV

from mammo_d2.evaluation.metrics.calibration.calibration_error import brier_score
from mammo_d2.evaluation.metrics.calibration.logistic import logit, sigmoid
from mammo_d2.evaluation.metrics.calibration.recalibration import Recalibration, fit_recalibration


def overconfident(seed, n=400):
    rng = np.random.default_rng(seed)
    x = rng.normal(-1, 1, n)
    return rng.random(n) < sigmoid(x), sigmoid(2.5 * x + 0.5)


class Scores(ClassifierMixin, BaseEstimator):
    """A fitted classifier whose decision function is its only feature."""

    classes_ = np.array([False, True])
    n_features_in_ = 1

    def fit(self, x, y):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def predict(self, x):
        return x[:, 0] > 0

    def decision_function(self, x):
        return x[:, 0]


def by_scikit_learn(truth, scores, method):
    frozen = pytest.importorskip("sklearn.frozen").FrozenEstimator(Scores())
    try:
        fitted = CalibratedClassifierCV(frozen, method=method).fit(logit(scores)[:, None], truth)
    except ValueError as error:  # versions before temperature scaling
        pytest.skip(str(error))
    return fitted.predict_proba(logit(scores)[:, None])[:, 1]


@pytest.mark.parametrize(("kind", "method"), [("platt", "sigmoid"), ("temperature", "temperature")])
def test_as_scikit_learn(kind, method):
    truth, scores = overconfident(0)
    expected = by_scikit_learn(truth, scores, method)
    np.testing.assert_allclose(fit_recalibration(truth, scores, kind).apply(scores), expected, atol=2e-4)


def test_fitted_on_one_set_and_applied_to_another():
    platt = fit_recalibration(*overconfident(2, 2000), "platt")
    assert platt.slope == pytest.approx(1 / 2.5, rel=0.15)
    assert platt.intercept == pytest.approx(-0.2, abs=0.15)
    truth, scores = overconfident(4, 2000)
    assert brier_score(truth, platt.apply(scores)) < brier_score(truth, scores)
    order = np.argsort(scores, kind="stable")
    assert (np.diff(platt.apply(scores)[order]) >= 0).all()


def test_temperature_by_hand():
    # Two thirds right at |logit| = log 8: sigmoid(log 8 / 3) = sigmoid(log 2) = 2 / 3, so T = 3.
    truth = np.array([1, 1, 0, 0, 0, 1])
    scores = np.array([8 / 9] * 3 + [1 / 9] * 3)
    fitted = fit_recalibration(truth, scores, "temperature")
    assert (fitted.temperature, fitted.intercept) == (pytest.approx(3), 0)


def test_separable_classes():
    truth, scores = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    assert np.isfinite(fit_recalibration(truth, scores, "platt").slope)
    with pytest.raises(ValueError, match=r"separate the classes.*or platt"):
        fit_recalibration(truth, scores, "temperature")


def test_missing_scores_stay_missing():
    found = Recalibration("platt", 2.0, 0.0).apply(np.array([np.nan, 0.5]))
    assert np.isnan(found[0])
    assert found[1] == 0.5


@pytest.mark.parametrize(
    ("truth", "kind", "message"),
    [
        ([0, 1, 0, 1], "isotonic", "none of temperature, platt"),
        ([0, 0, 0, 0], "platt", "0 positive and 4 negative"),
        ([1, 1, 0, 1], "platt", "do not rise with the truth"),
    ],
)
def test_errors(truth, kind, message):
    with pytest.raises(ValueError, match=message):
        fit_recalibration(np.array(truth), np.array([0.2, 0.4, 0.9, 0.6]), kind)
