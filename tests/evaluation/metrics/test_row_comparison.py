"""Rows compared on the same patients: by hand, against DeLong, and how often the intervals cover the truth."""

import math
from statistics import NormalDist

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.row_comparison import compare_rows, patients_needed
from mammo_d2.evaluation.metrics.scores.delong import delong_test
from mammo_d2.evaluation.metrics.scores.levels import LevelCases
from mammo_d2.evaluation.metrics.scores.score_statistic import MeanStatistic, ScoreRule, ScoreStatistic


def mean_of(values, patient=None):
    values = np.array([values], float)
    return MeanStatistic(values, ["hit"], np.arange(values.shape[1]) if patient is None else np.array(patient))


def auc_of(truth, scores):
    cases = LevelCases(np.asarray(truth, float), np.asarray(scores, float), np.arange(len(truth)), 0)
    return ScoreStatistic(cases, ScoreRule())


def test_patients_needed_by_hand():
    # 100 (2.8 * 0.05 / 0.07)^2 = 100 * 4
    assert patients_needed(100, 0.05, 0.07) == 400
    assert patients_needed(100, 0.05, -0.1) == 196
    assert patients_needed(100, 0.05, 0.0) == math.inf
    assert math.isnan(patients_needed(100, math.nan, 0.1))


def test_rows_are_means_over_units_and_differences_are_paired():
    """Two patients. Row "a": units 0, 1 and 1, 1. Row "b" is "a" plus 1/4 of the second patient."""
    rows = {
        "a": [{"t": mean_of([0, 1])}, {"t": mean_of([1, 1])}],
        "b": [{"t": mean_of([0, 1.25])}, {"t": mean_of([1, 1.25])}],
    }
    compared = compare_rows(rows, 2, BootstrapPlan(400, confidence=0.9))
    assert compared.patients == 2
    assert compared.reference == "a"
    a = compared.metrics["a"]["t/hit"]
    assert (a.value, a.units.tolist()) == (0.75, [0.5, 1.0])
    assert a.spread == pytest.approx(math.sqrt(0.125))
    # The share of the second patient is 0, 1/2 or 1: the mean of the units is 1/2, 3/4 or 1.
    assert set(a.replicates.tolist()) == {0.5, 0.75, 1.0}
    assert (a.interval.low, a.interval.high) == (0.5, 1.0)
    difference = compared.differences["b"]["t/hit"]
    assert difference.comparison.difference == 0.125
    # The difference is 1/4 of the share, in every draw; were the draws not the same it could be negative.
    shares = (a.replicates - 0.5) * 2
    assert (difference.comparison.low, difference.comparison.high) == (0, 0.25)
    assert difference.error == pytest.approx(np.std(shares / 4, ddof=1))
    assert difference.patients_needed == math.ceil(2 * (2.8 * difference.error / 0.125) ** 2)
    assert "a" not in compared.differences


def test_the_reference_is_chosen_by_name():
    rows = {"a": [{"t": mean_of([0, 1])}], "b": [{"t": mean_of([1, 1])}]}
    compared = compare_rows(rows, 2, BootstrapPlan(20), reference="b")
    assert compared.differences["a"]["t/hit"].comparison.difference == -0.5
    with pytest.raises(ValueError, match="no row 'c' to compare with; the rows are a, b"):
        compare_rows(rows, 2, BootstrapPlan(20), reference="c")


def test_nothing_is_needed_where_the_interval_excludes_zero():
    rows = {"a": [{"t": mean_of([0.0] * 20)}], "b": [{"t": mean_of([1.0] * 20)}]}
    difference = compare_rows(rows, 20, BootstrapPlan(50)).differences["b"]["t/hit"]
    assert (difference.comparison.low, difference.comparison.high) == (1, 1)
    assert difference.patients_needed is None


def test_metrics_of_some_rows_and_undefined_units():
    rows = {
        "a": [{"t": mean_of([0, 1])}, {"t": mean_of([np.nan, np.nan])}],
        "b": [{"t": mean_of([1, 1]), "only": mean_of([1, 0])}],
    }
    compared = compare_rows(rows, 2, BootstrapPlan(20))
    assert compared.metrics["a"]["t/hit"].value == 0.5
    assert compared.metrics["a"]["t/hit"].units.tolist() == [0.5]
    assert list(compared.differences["b"]) == ["t/hit"]
    undefined = compare_rows({"a": [{"t": mean_of([np.nan])}]}, 1, BootstrapPlan(20)).metrics["a"]["t/hit"]
    assert math.isnan(undefined.value)
    assert len(undefined.units) == 0


def test_the_standard_error_is_delongs():
    rng = np.random.default_rng(4)
    truth = np.repeat([0, 1], 100)
    first = rng.normal(size=200) + truth
    second = first + rng.normal(size=200)
    compared = compare_rows(
        {"a": [{"t": auc_of(truth, first)}], "b": [{"t": auc_of(truth, second)}]}, 200, BootstrapPlan(2000), truth
    )
    test = delong_test(truth, second, first, np.arange(200))
    difference = compared.differences["b"]["t/auc"]
    assert difference.comparison.difference == pytest.approx(test.difference)
    assert difference.error == pytest.approx(test.error, rel=0.06)
    assert difference.comparison.p == pytest.approx(test.p, abs=0.02)


def studies(number, patients, better, plan, seed):
    """Differences of two rows of two trainings each, in studies of their own; the true AUCs are known.

    A training's score is 1.2 (or 1.2 + ``better``) times the truth plus noise of variance 1, half of which all
    trainings share.
    """
    rng = np.random.default_rng(seed)
    truth = (np.arange(patients) % 2).astype(float)
    for _ in range(number):
        common = rng.normal(size=patients)
        noise = [(common + rng.normal(size=patients)) / math.sqrt(2) for _ in range(4)]
        rows = {
            name: [{"t": auc_of(truth, shift * truth + noise[2 * row + unit])} for unit in range(2)]
            for row, (name, shift) in enumerate({"a": 1.2, "b": 1.2 + better}.items())
        }
        yield compare_rows(rows, patients, plan, truth).differences["b"]["t/auc"]


def true_auc(shift):
    return NormalDist().cdf(shift / math.sqrt(2))


def test_intervals_cover_the_true_difference():
    """200 studies of 60 patients: of 95 % intervals 190 should cover, three standard errors are 9."""
    true = true_auc(1.5) - true_auc(1.2)
    found = list(studies(200, 60, 0.3, BootstrapPlan(300), seed=1))
    covering = sum(one.comparison.low <= true <= one.comparison.high for one in found)
    assert 181 <= covering <= 199


@pytest.mark.slow
def test_power_at_the_number_of_patients_needed():
    """The number for the true difference, from the standard errors of small studies, gives a power of 80 %."""
    true = true_auc(1.7) - true_auc(1.2)
    error = math.sqrt(np.mean([one.error**2 for one in studies(50, 100, 0.5, BootstrapPlan(200), seed=2)]))
    needed = int(patients_needed(100, error, true)) // 2 * 2
    found = list(studies(200, needed, 0.5, BootstrapPlan(300), seed=3))
    told = sum(one.patients_needed is None for one in found)
    assert 0.8 * 200 - 18 <= told <= 0.8 * 200 + 18
