"""McNemar's test: published examples, by hand, and several cases of a patient."""

import numpy as np
import pytest
from scipy import stats

from mammo_d2.evaluation.metrics.comparison.mcnemar import mcnemar_test


def decisions(both, first_only, second_only, neither):
    first = np.repeat([True, True, False, False], [both, first_only, second_only, neither])
    second = np.repeat([True, False, True, False], [both, first_only, second_only, neither])
    return first, second


def test_agresti():
    """Approval of a prime minister (Agresti 2002, table 10.1): 150 and 86 discordant; z² = 17.36, p < 0.0001."""
    result = mcnemar_test(*decisions(794, 150, 86, 570))
    assert result.statistic == pytest.approx(17.36, abs=0.005)
    assert result.difference == pytest.approx(-0.04)
    assert result.p == pytest.approx(3.1e-5, abs=1e-6)


def test_exact_and_mid_p_by_hand():
    # One of eight: exact 2 (1 + 8) / 256; mid-p takes off P(1) = 8 / 256.
    result = mcnemar_test(*decisions(5, 1, 7, 3))
    assert result.p_exact == pytest.approx(18 / 256)
    assert result.p_mid == pytest.approx(10 / 256)
    assert (result.first_only, result.second_only) == (1, 7)


def test_as_many_of_each():
    result = mcnemar_test(*decisions(5, 3, 3, 5))
    assert (result.p, result.p_exact, result.p_mid) == (1, 1, 1)


def test_fagerland_et_al():
    """Airway hyper-responsiveness before and after transplantation (Fagerland et al. 2013, table 1: 1, 1, 7, 12):
    asymptotic p = 0.034, exact p = 0.070, mid-p = 0.039."""
    result = mcnemar_test(*decisions(1, 1, 7, 12))
    assert (round(result.p, 3), round(result.p_exact, 3), round(result.p_mid, 3)) == (0.034, 0.070, 0.039)


def test_several_cases_of_a_patient():
    # Changes by patient: +2, +1, -1, 0: (2)² / (4 + 1 + 1) = 2 / 3.
    first = np.array([0, 0, 0, 1, 1, 1], bool)
    second = np.array([1, 1, 1, 0, 1, 1], bool)
    result = mcnemar_test(first, second, np.array([7, 7, 8, 9, 9, 5]))
    assert result.statistic == pytest.approx(4 / 6)
    assert result.p == pytest.approx(stats.chi2.sf(4 / 6, 1))
    assert np.isnan(result.p_exact)


def test_copied_images_of_a_patient_change_nothing():
    first, second = decisions(5, 1, 7, 3)
    alone = mcnemar_test(first, second)
    copied = mcnemar_test(np.repeat(first, 4), np.repeat(second, 4), np.repeat(np.arange(16), 4))
    assert copied.statistic == pytest.approx(alone.statistic)


def test_no_discordant_case():
    result = mcnemar_test(*decisions(3, 0, 0, 2))
    assert (result.p, result.p_exact, result.p_mid) == (1, 1, 1)
    with pytest.raises(ValueError, match="two lists of one length"):
        mcnemar_test(np.ones(2), np.ones(3))
