"""Net reclassification: the published Framingham example, by hand, and its warning."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.calibration.calibration_error import brier_score
from mammo_d2.evaluation.metrics.calibration.logistic import sigmoid
from mammo_d2.evaluation.metrics.clinical.reclassification import NRI_WARNING, net_reclassification
from mammo_d2.evaluation.metrics.scores.curves import roc_auc, score_table


def moves(up, down, same):
    return np.repeat([0.1, 0.3, 0.1], [up, down, same]), np.repeat([0.3, 0.1, 0.1], [up, down, same])


def test_framingham():
    """Pencina et al. 2008: HDL moves 29 events up and 7 down of 183, 173 non-events up and 174 down of 3081:
    NRI 0.121, z = 3.616, p < 0.001."""
    ill, well = moves(29, 7, 183 - 36), moves(173, 174, 3081 - 347)
    truth = np.repeat([1, 0], [183, 3081])
    first, second = (np.concatenate(pair) for pair in zip(ill, well, strict=True))
    found = net_reclassification(truth, first, second, (0.2,))
    assert (round(found.nri, 3), round(found.z, 3)) == (0.121, 3.616)
    assert found.p < 0.001
    assert (found.events, found.nonevents) == pytest.approx((22 / 183, 1 / 3081))
    assert found.table_events.tolist() == [[147, 29], [7, 0]]
    assert found.table_nonevents.sum() == 3081


def test_without_categories_by_hand():
    truth = np.array([1, 1, 1, 0, 0, 0, 0])
    first = np.full(7, 0.5)
    second = np.array([0.6, 0.7, 0.4, 0.4, 0.4, 0.6, 0.5])
    found = net_reclassification(truth, first, second)
    assert (found.events, found.nonevents) == pytest.approx((1 / 3, 1 / 4))
    assert found.nri == pytest.approx(7 / 12)
    assert found.error == pytest.approx((3 / 9 + 3 / 16) ** 0.5)
    half = 1.959964 * ((1 - 1 / 9) / 3 + (3 / 4 - 1 / 16) / 4) ** 0.5
    assert (found.low, found.high) == pytest.approx((7 / 12 - half, 7 / 12 + half), abs=1e-6)


def test_exaggeration_looks_like_progress():
    """Why there is a warning: the same ranks, made too extreme, are a worse model, yet the NRI is large."""
    rng = np.random.default_rng(0)
    x = rng.normal(-1, 1, 4000)
    truth = rng.random(4000) < sigmoid(x)
    calibrated, exaggerated = sigmoid(x), sigmoid(2 * x + 1)
    found = net_reclassification(truth, calibrated, exaggerated)
    assert found.nri > 0.5
    assert found.p < 1e-6
    assert brier_score(truth, exaggerated) > brier_score(truth, calibrated)
    assert roc_auc(score_table(truth, exaggerated)) == roc_auc(score_table(truth, calibrated))
    assert "Do not rest a claim" in NRI_WARNING


def test_nobody_moves():
    found = net_reclassification(np.array([0, 1]), np.array([0.1, 0.2]), np.array([0.1, 0.2]))
    assert found.nri == 0
    assert np.isnan(found.p)


@pytest.mark.parametrize("cuts", [(0.3, 0.2), (0.0, 0.5), (0.5, 1.0)])
def test_cuts(cuts):
    with pytest.raises(ValueError, match="must rise within"):
        net_reclassification(np.array([0, 1]), np.array([0.1, 0.2]), np.array([0.1, 0.2]), cuts)
