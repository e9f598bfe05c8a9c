"""Sample sizes: by hand, against published tables, and against each other."""

import math
from statistics import NormalDist

import pytest

from mammo_d2.evaluation.metrics.comparison.sample_size import (
    auc_variance,
    pairs_for_sensitivity,
    patients_for_auc,
    patients_needed,
    power_of,
    quantiles,
)


def test_patients_needed_with_other_quantiles():
    # (1.959964 + 1.281552)² (0.05 / 0.1)² 100 = 262.7
    assert patients_needed(100, 0.05, 0.1, *quantiles(0.05, 0.9)) == 263
    # Non-inferiority: expected difference 0, margin 0.1, one-sided 2.5 %: (1.959964 + 0.841621)² / 4 * 100 = 196.2
    assert patients_needed(100, 0.05, 0 + 0.1, *quantiles(0.025, 0.8, two_sided=False)) == 197


def test_power_at_the_patients_needed():
    needed = patients_needed(100, 0.05, 0.07, *quantiles(0.05, 0.8))
    assert power_of(100, 0.05, 0.07, int(needed)) == pytest.approx(0.8, abs=0.002)
    assert power_of(100, 0.05, 0.0, 100) == pytest.approx(0.05)


def test_variance_of_an_area_by_hand():
    q1, q2 = 0.8 / 1.2, 2 * 0.64 / 1.8
    by_hand = (0.16 + 49 * (q1 - 0.64) + 49 * (q2 - 0.64)) / 2500
    assert auc_variance(0.8, 50, 50) == pytest.approx(by_hand)
    # One case of each kind: that of a single comparison, A (1 - A).
    assert auc_variance(0.8, 1, 1) == pytest.approx(0.16)


def test_patients_for_areas_are_the_fewest():
    needed = patients_for_auc(0.85, 0.90, 0.3, 0.5)
    total = sum(quantiles(0.05, 0.8))

    def error(n):
        v1, v2 = (auc_variance(a, 0.3 * n, 0.7 * n) for a in (0.85, 0.90))
        return math.sqrt(v1 + v2 - math.sqrt(v1 * v2))

    assert total * error(needed) <= 0.05 < total * error(needed - 1)
    assert power_of(needed, error(needed), 0.05, needed) == pytest.approx(0.8, abs=2e-3)
    assert patients_for_auc(0.85, 0.85, 0.3, margin=0.05) > needed > patients_for_auc(0.85, 0.90, 0.3, 0.7)


def test_pairs_for_mcnemar():
    """b = 0.2, c = 0.1: (1.959964 sqrt 0.3 + 0.841621 sqrt 0.29)² / 0.01 = 233.1."""
    assert pairs_for_sensitivity(0.2, 0.1) == 234
    z, z_power = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(0.8)
    assert math.ceil((z * 0.3**0.5 + z_power * 0.29**0.5) ** 2 / 0.01) == 234


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: quantiles(0, 0.8), "level 0 and power 0.8 must lie between"),
        (lambda: patients_for_auc(0.8, 0.8, 0.1), "no difference to show"),
        (lambda: patients_for_auc(0.8, 1.2, 0.1), "AUC 1.2"),
        (lambda: patients_for_auc(0.8, 0.9, 0.1, correlation=1), "correlation 1"),
        (lambda: patients_for_auc(0.9, 0.8, 0.1, margin=0.05), "no difference to show"),
        (lambda: pairs_for_sensitivity(0.1, 0.1), "are equal"),
        (lambda: pairs_for_sensitivity(0.8, 0.4), "sum to at most 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
