"""Permutation test: all exchanges by hand, against plain loops, and its level under the hypothesis."""

import itertools

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.comparison.permutation import permutation_test, pooled_cases, pooled_events
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.scores.curves import roc_auc, score_table
from mammo_d2.evaluation.metrics.scores.delong import midranks
from mammo_d2.evaluation.metrics.scores.levels import LevelCases
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic
from tests.evaluation.scenes import DETECTIONS, LESIONS, make


def cases_of(truth, scores, patient=None):
    patient = np.arange(len(truth)) if patient is None else np.asarray(patient)
    return LevelCases(np.asarray(truth, float), np.asarray(scores, float), patient, 0)


def test_all_exchanges_against_loops():
    rng = np.random.default_rng(1)
    truth = np.array([1, 1, 1, 0, 0, 0, 0])
    a, b = rng.random(7), rng.random(7) + truth
    pooled = ScoreStatistic(pooled_cases(cases_of(truth, a), cases_of(truth, b), 7), ScoreRule())
    result = permutation_test(pooled, 7)["auc"]
    ra, rb = midranks(a), midranks(b)
    area = lambda scores: float(roc_auc(score_table(truth, scores)))  # noqa: E731
    observed = area(b) - area(a)
    drawn = [
        area(np.where(swap, ra, rb)) - area(np.where(swap, rb, ra)) for swap in itertools.product([0, 1], repeat=7)
    ]
    assert result.is_exact
    assert result.difference == pytest.approx(observed)
    assert result.p == pytest.approx(np.mean(np.abs(drawn) >= abs(observed) - 1e-12))


def test_equal_systems_have_p_1():
    cases = cases_of([1, 0, 1, 0], [0.9, 0.1, 0.4, 0.6])
    result = permutation_test(ScoreStatistic(pooled_cases(cases, cases, 4), ScoreRule()), 4)["auc"]
    assert (result.difference, result.p) == (0, 1)


def test_random_exchanges_are_near_all_of_them():
    rng = np.random.default_rng(5)
    truth = rng.random(12) < 0.5
    first, second = cases_of(truth, rng.random(12)), cases_of(truth, rng.random(12) + 0.4 * truth)
    exact = permutation_test(ScoreStatistic(pooled_cases(first, second, 12), ScoreRule()), 12)["auc"]
    # Two more patients without a case leave the areas alone, and make the draws random.
    drawn = permutation_test(ScoreStatistic(pooled_cases(first, second, 14), ScoreRule()), 14, 2000)["auc"]
    assert not drawn.is_exact
    assert drawn.p == pytest.approx(exact.p, abs=0.04)


def test_level_under_the_hypothesis():
    rng = np.random.default_rng(0)
    truth = np.repeat([1, 0], 15)
    small = 0
    for _ in range(100):
        shared = rng.normal(size=30) + truth
        first, second = (cases_of(truth, np.exp(shared + rng.normal(size=30))) for _ in range(2))
        pooled = ScoreStatistic(pooled_cases(first, second, 30), ScoreRule())
        small += permutation_test(pooled, 30, 99)["auc"].p <= 0.1
    assert 3 <= small <= 19  # 10 expected, standard deviation 3


def test_froc_of_each_system_is_kept():
    first = make(LESIONS, DETECTIONS)
    second = make(LESIONS, [(0, 0, 30.0), (0, 1, 20.0), (1, 0, 10.0), (3, 1, 15.0), (2, 4, 10.0)])
    rule, patient = FrocRule(rates=(0.25, 0.5, 1.0)), first.images.patient
    a, b = froc_events(first, rule, 0), froc_events(second, rule, 0)
    events, pooled_patient = pooled_events(a, b, patient, 2)
    pooled = FrocStatistic(events, pooled_patient, rule)
    alone = [FrocStatistic(e, patient, rule).replicate(np.ones((2, 1), np.uint16)) for e in (a, b)]
    halves = [np.array([[1], [1], [0], [0]], np.uint16), np.array([[0], [0], [1], [1]], np.uint16)]
    for own, weights in zip(alone, halves, strict=True):
        np.testing.assert_allclose(pooled.replicate(weights), own)
    found = permutation_test(pooled, 2)
    assert found["sens@0.5"].difference == pytest.approx(float((alone[1] - alone[0])[1, 0]))


def test_other_cases_are_refused():
    with pytest.raises(ValueError, match="must score the same cases"):
        pooled_cases(cases_of([1, 0], [1, 2]), cases_of([0, 1], [1, 2]), 2)
