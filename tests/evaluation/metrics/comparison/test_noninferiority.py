"""Non-inferiority: by hand, and the two ways agree where the replicates are normal."""

from statistics import NormalDist

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.comparison.noninferiority import noninferiority_of_replicates, noninferiority_test


def test_by_hand():
    # z = (-0.01 + 0.05) / 0.02 = 2: p = 0.02275; lower limit -0.01 - 1.959964 * 0.02 = -0.0492 > -0.05
    result = noninferiority_test(-0.01, 0.02, 0.05)
    assert result.p == pytest.approx(0.0227501, abs=1e-7)
    assert result.low == pytest.approx(-0.0491993, abs=1e-7)
    assert result.is_noninferior
    assert not noninferiority_test(-0.02, 0.02, 0.05).is_noninferior


def test_the_p_value_and_the_limit_agree():
    for difference in np.linspace(-0.1, 0.1, 41):
        result = noninferiority_test(float(difference), 0.02, 0.05)
        assert result.is_noninferior == (result.p < 0.025)


def test_without_spread():
    assert noninferiority_test(0.0, 0.0, 0.05).p == 0
    assert noninferiority_test(-0.05, 0.0, 0.05).p == 1


def test_of_replicates_by_hand():
    drawn = np.array([-0.06, -0.05, -0.04, *np.linspace(-0.03, 0.03, 96), np.nan])
    result = noninferiority_of_replicates(0.0, drawn, 0.05)
    assert result.p == pytest.approx((2 + 1) / 100)  # -0.06 and -0.05 lose by the margin or more
    assert result.low == pytest.approx(np.quantile(drawn[:-1], 0.025))
    assert result.is_noninferior  # -0.0455 > -0.05


def test_both_ways_agree():
    normal = np.array([NormalDist(0.01, 0.03).inv_cdf((n + 0.5) / 4000) for n in range(4000)])
    exact, drawn = noninferiority_test(0.01, 0.03, 0.04), noninferiority_of_replicates(0.01, normal, 0.04)
    assert drawn.p == pytest.approx(exact.p, abs=1e-3)
    assert drawn.low == pytest.approx(exact.low, abs=1e-3)


def test_undefined_and_errors():
    result = noninferiority_of_replicates(float("nan"), np.full(3, np.nan), 0.05)
    assert np.isnan(result.p)
    assert not result.is_noninferior
    with pytest.raises(ValueError, match="margin 0 must be above 0"):
        noninferiority_test(0, 1, 0)
    with pytest.raises(ValueError, match=r"level 0\.5 must"):
        noninferiority_test(0, 1, 0.1, 0.5)
