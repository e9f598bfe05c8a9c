"""Tests between subgroups by hand and against DeLong's errors of independent AUCs; Holm's correction by hand."""

from statistics import NormalDist

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan, bootstrap, estimate
from mammo_d2.evaluation.metrics.heterogeneity import heterogeneity_test, holm
from mammo_d2.evaluation.metrics.scores.delong import delong_interval
from mammo_d2.evaluation.metrics.scores.levels import LevelCases
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic


def test_two_subgroups_by_hand():
    drawn = np.array([np.zeros(200), np.tile([0.1, 0.3], 100)])
    result = heterogeneity_test(np.array([0.5, 0.7]), drawn)
    # The difference 0.2 has the variance 0.01 * 200 / 199.
    assert result.statistic == pytest.approx(0.04 / (0.01 * 200 / 199), rel=1e-12)
    assert result.degrees == 1
    assert result.p == pytest.approx(2 * NormalDist().cdf(-(result.statistic**0.5)), rel=1e-9)


def test_three_subgroups_of_independent_errors():
    drawn = np.random.default_rng(0).normal(0, [[0.1], [0.2], [0.2]], (3, 20_000))
    values = np.array([0.5, 0.6, 0.9])
    # Weighted sum of squares around the weighted mean, as for a meta-analysis (Cochran's Q).
    weight = 1 / np.array([0.01, 0.04, 0.04])
    q = (weight * (values - (weight * values).sum() / weight.sum()) ** 2).sum()
    result = heterogeneity_test(values, drawn)
    assert result.statistic == pytest.approx(q, rel=0.05)
    assert result.degrees == 2


def test_aucs_of_two_groups_of_patients_as_by_delong():
    rng = np.random.default_rng(3)
    truth, patient = np.tile([0.0, 1.0], 150), np.arange(300)
    scores = rng.normal(truth * np.where(patient < 150, 0.6, 1.3), 1)
    groups = [patient < 150, patient >= 150]
    statistics, errors = {}, []
    for name, mine in zip("ab", groups, strict=True):
        cases = LevelCases(truth[mine], scores[mine], patient[mine], 0)
        statistics[name] = ScoreStatistic(cases, ScoreRule())
        errors.append(delong_interval(cases.truth, cases.scores))
    row = statistics["a"].keys.index("auc")
    drawn = bootstrap(statistics, 300, BootstrapPlan(1000), truth + 2 * groups[0])
    values = np.array([estimate(statistics[name], 300)[row] for name in "ab"])
    result = heterogeneity_test(values, np.stack([drawn[name][row] for name in "ab"]))
    z = (errors[1].auc - errors[0].auc) / (errors[0].error ** 2 + errors[1].error ** 2) ** 0.5
    assert result.statistic == pytest.approx(z**2, rel=0.1)


def test_what_cannot_be_tested_has_a_reason():
    drawn = np.random.default_rng(0).random((3, 100))
    nan = float("nan")
    assert "fewer than two" in heterogeneity_test(np.array([0.5, nan, nan]), drawn).reason
    assert heterogeneity_test(np.array([0.5, nan, 0.5]), drawn).degrees == 1
    assert "0 replicates" in heterogeneity_test(np.array([0.5, 0.6, 0.7]), drawn[:, :0]).reason
    assert "do not vary" in heterogeneity_test(np.array([0.5, 0.6]), np.ones((2, 100))).reason
    assert heterogeneity_test(np.array([1.0, 1.0]), np.ones((2, 100))).p == 1


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1 is 0.04, 0.06, 0.06, 0.04; none is below the one before.
    np.testing.assert_allclose(holm([0.04, 0.01, float("nan"), 0.03, 0.02]), [0.06, 0.04, np.nan, 0.06, 0.06])
    np.testing.assert_array_equal(holm([0.9, 0.8]), [1, 1])
    assert len(holm([])) == 0


def test_holm_is_that_of_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(1).random(30) ** 3
    np.testing.assert_allclose(holm(p), multitest.multipletests(p, method="holm")[1], rtol=1e-12)
