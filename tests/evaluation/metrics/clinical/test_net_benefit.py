"""Net benefit: by hand, against plain loops, and with another prevalence."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.clinical.net_benefit import NetBenefitStatistic, net_benefit

TRUTH = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
SCORES = np.array([0.6, 0.1, 0.3, 0.2, 0.1, 0.05, 0.05, 0.02, 0.01, 0.01])


def test_by_hand():
    # At 0.2: one true positive, two false ones (0.3 and 0.2) of ten: 0.1 - 0.2 * 0.25 = 0.05; everybody 0.2 - 0.8 / 4.
    statistic = NetBenefitStatistic(TRUTH, SCORES, np.arange(10), (0.2, 0.5))
    assert statistic.keys == ["net_benefit@0.2", "net_benefit@0.5", "recall_all@0.2", "recall_all@0.5"]
    assert estimate(statistic, 10) == pytest.approx([0.05, 0.1, 0.0, -0.6])


def test_against_loops():
    rng = np.random.default_rng(0)
    truth, scores = rng.random(60) < 0.3, np.round(rng.random(60), 2)
    thresholds = (0.05, 0.1, 0.3, 0.77)
    found = estimate(NetBenefitStatistic(truth, scores, np.arange(60), thresholds), 60)[:4]
    for threshold, value in zip(thresholds, found, strict=True):
        called = scores >= threshold
        hits, alarms = sum(truth & called), sum(~truth & called)
        assert value == pytest.approx(hits / 60 - alarms / 60 * threshold / (1 - threshold))


def test_another_prevalence():
    # TPR 1/2 and FPR 2/8 at 0.2, prevalence 1 %.
    found = estimate(NetBenefitStatistic(TRUTH, SCORES, np.arange(10), (0.2,), 0.01), 10)[0]
    assert found == pytest.approx(0.01 * 0.5 - 0.99 * 0.25 * 0.25)
    assert net_benefit(np.array(1.0), np.array(0.0), np.array(0.1), np.array(0.5)) == 0.1


def test_weights_are_copies():
    weights = np.array([1, 0, 2, 1, 1, 1, 0, 1, 1, 2])[:, None]
    rows = np.repeat(np.arange(10), weights[:, 0])
    copied = NetBenefitStatistic(TRUTH[rows], SCORES[rows], np.arange(len(rows)), (0.1,))
    statistic = NetBenefitStatistic(TRUTH, SCORES, np.arange(10), (0.1,))
    assert statistic.replicate(weights)[:, 0] == pytest.approx(estimate(copied, len(rows)))
    assert np.isnan(statistic.replicate(1 - TRUTH[:, None])).all()


def test_errors():
    with pytest.raises(ValueError, match="threshold 1 must lie between"):
        NetBenefitStatistic(TRUTH, SCORES, np.arange(10), (0.5, 1))
    with pytest.raises(ValueError, match="prevalence 0 must"):
        NetBenefitStatistic(TRUTH, SCORES, np.arange(10), (0.5,), 0)
    with pytest.raises(ValueError, match="no probabilities"):
        NetBenefitStatistic(TRUTH, SCORES * 10, np.arange(10), (0.5,))
