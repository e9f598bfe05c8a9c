"""Proportions: Clopper & Pearson's published limits, clusters by hand."""

import numpy as np
import pytest
from scipy import stats

from mammo_d2.evaluation.metrics.comparison.proportions import clustered_proportion, exact_interval


@pytest.mark.parametrize(("hits", "total"), [(0, 10), (3, 10), (10, 10), (263, 300)])
def test_exact_limits_as_scipy(hits, total):
    expected = stats.binomtest(hits, total).proportion_ci(method="exact")
    assert exact_interval(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_independent_cases():
    found = clustered_proportion(np.repeat([1, 0], [3, 7]))
    assert (found.value, found.effective) == (0.3, 10)
    assert (found.low, found.high) == pytest.approx(exact_interval(3, 10))
    single = clustered_proportion(np.repeat([1, 0], [3, 7]), np.arange(10))
    assert (single.low, single.high) == (found.low, found.high)


def test_clusters_by_hand():
    # Three patients of two images: (1, 1), (1, 0), (0, 0): p = 1/2, residuals 1, 0, -1.
    found = clustered_proportion(np.array([1, 1, 1, 0, 0, 0]), np.array([0, 0, 1, 1, 2, 2]))
    variance = 3 / 2 * 2 / 36
    t = stats.t.ppf(0.975, [5, 2])
    assert found.effective == pytest.approx(0.25 / variance * (t[0] / t[1]) ** 2)
    assert (found.low, found.high) == pytest.approx(exact_interval(found.effective / 2, found.effective))


def test_all_hit_counts_patients():
    found = clustered_proportion(np.ones(8), np.arange(8) // 2)
    assert (found.low, found.high) == pytest.approx(exact_interval(4, 4))
    assert np.isnan(clustered_proportion(np.zeros(0)).low)
    assert np.isnan(exact_interval(0, 0)[0])
