"""Lesion scores from crops, and the TNR-FNR curve."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.scores.curves import score_table
from mammo_d2.evaluation.metrics.scores.lesion_decisions import (
    average_over_crops,
    lesion_metrics,
    malignancy_of_crops,
    tnr_curve,
)


def test_malignancy_given_malignant_or_benign():
    np.testing.assert_allclose(
        malignancy_of_crops(np.array([0.3, 0.0, 0.2]), np.array([0.1, 0.0, 0.0])), [0.75, 0.5, 1]
    )


def test_average_over_crops():
    scores, lesion = np.array([0.2, 0.6, 0.9]), np.array([0, 0, 2])
    np.testing.assert_allclose(average_over_crops(scores, lesion), [0.4, np.nan, 0.9])
    logit = np.log([0.2 / 0.8, 0.6 / 0.4]).mean()
    np.testing.assert_allclose(average_over_crops(scores, lesion, "logit"), [1 / (1 + np.exp(-logit)), np.nan, 0.9])
    with pytest.raises(ValueError, match="'median' is neither"):
        average_over_crops(scores, lesion, "median")


def test_metrics_by_hand():
    # Malignant at ranks 1, 2, 4 and 8 of ten: none missed needs 8 called; one of four missed needs FNR 0.25.
    truth = np.array([1, 1, 0, 1, 0, 0, 0, 1, 0, 0])
    numbers = lesion_metrics(score_table(truth, np.arange(10.0)[::-1]), (0.0, 0.2, 0.25))
    assert numbers["tnr@fnr0"] == pytest.approx(2 / 6)
    assert numbers["tnr@fnr0.2"] == pytest.approx(2 / 6)
    assert numbers["tnr@fnr0.25"] == pytest.approx(5 / 6)
    assert numbers["auc"] == pytest.approx((6 + 6 + 5 + 2) / 24)


def test_curve_rises_and_lies_in_its_band():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 80)
    curve = tnr_curve(truth, truth * 0.8 + rng.normal(size=80), rng.integers(0, 40, 80), BootstrapPlan(100))
    assert (np.diff(curve.tnr) >= 0).all()
    assert curve.tnr[-1] == 1
    assert (curve.low <= curve.high).all()
    assert ((curve.low <= curve.tnr) & (curve.tnr <= curve.high))[5:].mean() > 0.9
    plain = tnr_curve(truth, rng.normal(size=80), np.arange(80), BootstrapPlan(0), np.array([0.1]))
    assert np.isnan(plain.low[0])
    assert plain.fnr.tolist() == [0.1]
