"""BCa against scipy, the beta interval by hand, Newcombe's interval against its defining equation."""

import numpy as np
import pytest
from scipy import stats

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.comparison.intervals import (
    auc_score_interval,
    bca_interval,
    beta_interval,
    deciding_patients,
    deciding_share,
    left_out_values,
    make_interval,
)
from mammo_d2.evaluation.metrics.comparison.proportions import exact_interval
from mammo_d2.evaluation.metrics.scores.levels import LevelCases
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic, ScoreRule, ScoreStatistic


def test_bca_as_scipy():
    """On the same replicates: scipy takes them from an earlier result."""
    rng = np.random.default_rng(2)
    sample = rng.exponential(size=30)
    earlier = stats.bootstrap((sample,), np.mean, n_resamples=2000, method="BCa", rng=rng)
    left_out = (sample.sum() - sample) / 29
    found = bca_interval(sample.mean(), earlier.bootstrap_distribution, left_out, 0.95)
    expected = earlier.confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_bca_without_bias_or_skewness_is_the_percentile_interval():
    drawn = np.linspace(-1, 1, 1001)
    found = bca_interval(0.0, drawn, np.array([-1.0, 1.0]), 0.9)
    assert (found.low, found.high) == pytest.approx((-0.9, 0.9))
    assert found == make_interval("bca", 0.0, drawn, 0.9, left_out=np.array([-1.0, 1.0]))


def test_bca_undefined():
    assert np.isnan(bca_interval(2.0, np.array([0.0, 1.0]), np.zeros(3), 0.95).low)
    assert bca_interval(1.0, np.array([1.0, 1.0, np.nan]), np.zeros(3), 0.95).undefined == 1
    assert bca_interval(1.0, np.ones(5), np.zeros(3), 0.95).high == 1.0


def test_left_out_values():
    statistic = MeanStatistic(np.array([[1.0, 2.0, 6.0]]), ["mean"], np.arange(3))
    np.testing.assert_allclose(left_out_values(statistic, 3, chunk=2), [[4.0, 3.5, 1.5]])
    cases = LevelCases(np.array([1.0, 0, 1, 0]), np.array([0.9, 0.2, 0.4, 0.6]), np.arange(4), 0)
    areas = left_out_values(ScoreStatistic(cases, ScoreRule()), 4)[0]
    np.testing.assert_allclose(areas, [0.5, 0.5, 1.0, 1.0])
    assert estimate(ScoreStatistic(cases, ScoreRule()), 4)[0] == 0.75


def test_beta_by_hand():
    # m = 5, variance 0.02 -> 0.025; n = 0.21 / 0.025 = 8.4, times (1.959964 / 2.776445)²
    drawn = 0.7 + np.array([1, -1]) * 0.02**0.5
    effective = 8.4 * (stats.norm.ppf(0.975) / stats.t.ppf(0.975, 4)) ** 2
    found = beta_interval(0.7, drawn, 5, 0.95)
    assert (found.low, found.high) == pytest.approx(exact_interval(0.7 * effective, effective))


def test_beta_without_spread_counts_patients():
    found = beta_interval(1.0, np.ones(10), 6, 0.95)
    assert (found.low, found.high) == pytest.approx((0.025 ** (1 / 6), 1))
    one = beta_interval(0.8, np.array([0.7, 0.9]), 1, 0.95)
    assert (one.low, one.high) == pytest.approx(exact_interval(0.8, 1))


def test_beta_of_a_difference():
    drawn = np.array([0.05, 0.15])
    found = beta_interval(0.1, drawn, 20, 0.95, lowest=-1)
    scaled = beta_interval(0.55, (drawn + 1) / 2, 20, 0.95)
    assert (found.low, found.high) == pytest.approx((2 * scaled.low - 1, 2 * scaled.high - 1))
    same = beta_interval(0.0, np.zeros(5), 20, 0.95, lowest=-1)
    assert (same.low, same.high) == pytest.approx(tuple(2 * x - 1 for x in exact_interval(10, 20)))


def test_area_interval_solves_its_equation():
    found = auc_score_interval(0.9, 12, 80)
    for limit in (found.low, found.high):
        m = 46
        factor = 1 + (m - 1) * ((1 - limit) / (2 - limit) + limit / (1 + limit))
        variance = limit * (1 - limit) * factor / (12 * 80)
        assert abs(0.9 - limit) == pytest.approx(1.959964 * variance**0.5, rel=1e-6)
    assert auc_score_interval(1.0, 12, 80).high == 1
    assert 0.85 < auc_score_interval(1.0, 12, 80).low < 0.95
    assert np.isnan(auc_score_interval(0.9, 0, 5).low)


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match="interval 'wald' is none of percentile, bca, beta"):
        make_interval("wald", 0, np.zeros(2), 0.95)


def test_deciding_patients():
    assert [deciding_patients(m) for m in (2, 30)] == [2, 30]
    # A partial area over sensitivity [0.8, 1] hangs on a fifth of the positives and the next one.
    assert [deciding_patients(m, 1 - 0.8) for m in (1, 2, 5, 6, 30)] == [1, 2, 2, 3, 7]


def test_deciding_share():
    shares = {"auc": 1, "sens@spec0.9": 1, "pauc_ratio": 0.2, "spec@sens0.85": 0.15, "tnr@fnr0.05": 0.05, "tnr@fnr0": 0}
    for metric, share in shares.items():
        assert deciding_share(metric) == pytest.approx(share)
    assert deciding_patients(30, deciding_share("tnr@fnr0")) == 1


def test_beta_without_replicates_is_undefined():
    assert np.isnan(beta_interval(0.5, np.zeros(0), 6, 0.95).low)
    assert beta_interval(0.5, np.array([0.4, np.nan, 0.6]), 6, 0.95).undefined == 1
