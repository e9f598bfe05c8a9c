"""Reliability diagram: points by hand, and a band that heeds patients."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.calibration.reliability import reliability_diagram
from mammo_d2.evaluation.metrics.comparison.proportions import exact_interval


def test_by_hand():
    truth = np.array([0, 0, 0, 1, 0, 1, 1, 1])
    scores = np.array([0.1, 0.1, 0.2, 0.2, 0.6, 0.7, 0.8, 0.9])
    diagram = reliability_diagram(truth, scores, bins=2)
    assert diagram.mean == pytest.approx([0.15, 0.75])
    assert diagram.rate.tolist() == [0.25, 0.75]
    assert diagram.count.tolist() == [4, 4]
    assert (diagram.low[0], diagram.high[0]) == pytest.approx(exact_interval(1, 4))


def test_images_of_a_patient_widen_the_band():
    rng = np.random.default_rng(0)
    scores = rng.random(50)
    truth = rng.random(50) < scores
    alone = reliability_diagram(truth, scores, bins=4)
    copied = reliability_diagram(np.repeat(truth, 4), np.repeat(scores, 4), np.repeat(np.arange(50), 4), bins=4)
    np.testing.assert_allclose(copied.rate, alone.rate)
    careless = reliability_diagram(np.repeat(truth, 4), np.repeat(scores, 4), bins=4)
    # Four copies of a case tell no more than one.
    assert (copied.high - copied.low > 1.5 * (careless.high - careless.low)).all()
