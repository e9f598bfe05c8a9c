"""DeLong's variance against the definition written out, clusters, the paired test, and Wilson's interval."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from mammo_d2.evaluation.metrics.scores.delong import (
    delong_interval,
    delong_test,
    midranks,
    placements,
    wilson_interval,
)

RNG = np.random.default_rng(3)
TRUTH = RNG.integers(0, 2, 60)
SCORES = np.round(TRUTH * 0.5 + RNG.normal(size=60), 1)  # with ties
OTHER = np.round(TRUTH * 0.3 + RNG.normal(size=60), 1)


def kernel(truth, scores):
    """(P, N) matrix of comparisons: 1 won, 0.5 equal, 0 lost."""
    pos, neg = scores[truth == 1][:, None], scores[truth == 0][None]
    return (pos > neg) + 0.5 * (pos == neg)


def test_midranks_by_hand():
    assert midranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1, 3.5, 2]


def test_placements_are_row_and_column_means():
    table = kernel(TRUTH, SCORES)
    v10, v01 = placements(TRUTH == 1, SCORES)
    np.testing.assert_allclose(v10, table.mean(axis=1), atol=1e-12)
    np.testing.assert_allclose(v01, table.mean(axis=0), atol=1e-12)


def test_variance_is_delongs():
    table = kernel(TRUTH, SCORES)
    expected = np.var(table.mean(axis=1), ddof=1) / table.shape[0] + np.var(table.mean(axis=0), ddof=1) / table.shape[1]
    found = delong_interval(TRUTH, SCORES)
    assert found.auc == pytest.approx(roc_auc_score(TRUTH, SCORES), abs=1e-12)
    assert found.error**2 == pytest.approx(expected, abs=1e-15)
    assert found.high - found.low == pytest.approx(2 * 1.959963984540054 * found.error, abs=1e-12)


def test_covariance_is_delongs():
    a, b = kernel(TRUTH, SCORES), kernel(TRUTH, OTHER)
    variance = sum(
        np.var(a.mean(axis=axis) - b.mean(axis=axis), ddof=1) / n for axis, n in ((1, a.shape[0]), (0, a.shape[1]))
    )
    test = delong_test(TRUTH, SCORES, OTHER)
    assert test.difference == pytest.approx(a.mean() - b.mean(), abs=1e-12)
    assert test.error**2 == pytest.approx(variance, abs=1e-15)
    assert test.p == pytest.approx(2 * (1 - 0.5 * (1 + _erf(abs(test.z) / 2**0.5))), abs=1e-12)


def _erf(x):
    from math import erf

    return erf(x)


def test_copies_within_a_patient_do_not_shrink_the_clustered_error():
    alone = delong_interval(TRUTH, SCORES)
    truth, scores, patient = np.tile(TRUTH, 4), np.tile(SCORES, 4), np.tile(np.arange(60), 4)
    assert delong_interval(truth, scores, patient).error == pytest.approx(alone.error, rel=1e-12)
    assert delong_interval(truth, scores).error < 0.6 * alone.error


def test_equal_scores_have_p_one():
    test = delong_test(TRUTH, SCORES, SCORES)
    assert (test.difference, test.z, test.p) == (0, 0, 1)


def test_perfect_separation_and_missing_classes():
    perfect = delong_interval(np.array([0, 0, 1, 1]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert (perfect.auc, perfect.low, perfect.high) == (1, 1, 1)
    lone = delong_interval(np.array([0, 0, 1]), np.array([1.0, 2.0, 3.0]))
    assert lone.auc == 1
    assert np.isnan(lone.low)
    assert "fewer than two clusters with a positive case" in lone.reason
    assert np.isnan(delong_interval(np.array([1, 1]), np.array([1.0, 2.0])).auc)
    with pytest.raises(ValueError, match="positive"):
        delong_test(np.array([0, 0, 1]), np.arange(3.0), np.arange(3.0))


def test_wilson_interval_against_published_values():
    # Newcombe 1998, table I: 81/263 and 0/20.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0, 0.1611), abs=5e-5)
    assert wilson_interval(29, 29) == pytest.approx((0.8830, 1), abs=5e-5)
    assert np.isnan(wilson_interval(0, 0)[0])
