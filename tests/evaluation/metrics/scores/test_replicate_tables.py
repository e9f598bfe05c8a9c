"""Tables with runs of negative cases taken together give the numbers of whole tables, to the last bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.evaluation.metrics.scores.curves import score_table
from mammo_d2.evaluation.metrics.scores.levels import LevelCases
from mammo_d2.evaluation.metrics.scores.replicate_tables import ReplicateTables
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic, roc_at, score_metrics

GRID = np.linspace(0, 1, 21)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 60), st.integers(1, 40), st.booleans(), st.floats(0, 1))
def test_numbers_equal_those_of_whole_tables(seed, cases, levels, strict, prevalence):
    rng = np.random.default_rng(seed)
    truth = (rng.random(cases) < prevalence).astype(float)
    scores = rng.integers(0, levels, cases) / levels
    patient = rng.integers(0, 9, cases)
    rule = ScoreRule(threshold=float(rng.choice([0.0, 0.25, 0.5, 1.0])), strict=strict)
    weights = rng.integers(0, 4, (9, 5)).astype(np.uint16)
    statistic = ScoreStatistic(LevelCases(truth, scores, patient, 0), rule, GRID.tolist())
    whole = score_table(truth, scores, weights[patient])
    expected = [np.broadcast_to(values, 5) for values in score_metrics(whole, rule).values()]
    np.testing.assert_array_equal(statistic.replicate(weights), [*expected, *roc_at(whole, GRID)])


def test_negative_cases_between_two_positive_ones_are_one_row():
    truth, scores = np.array([0, 1, 0, 0, 0, 1.0]), np.array([0.9, 0.8, 0.7, 0.6, 0.4, 0.3])
    tables = ReplicateTables(truth, scores, np.arange(6), 0.5, True)
    ((columns, table, claimed),) = tables.tables(np.ones((6, 1), np.uint16))
    assert columns == slice(0, 1)
    # The run from 0.7 to 0.4 is cut where the decision changes.
    np.testing.assert_array_equal(table.thresholds, [0.9, 0.8, 0.7, 0.4, 0.3])
    np.testing.assert_array_equal(table.neg[:, 0], [1, 0, 2, 1, 0])
    np.testing.assert_array_equal(table.pos[:, 0], [0, 1, 0, 0, 1])
    assert claimed[0] == pytest.approx(3.7, abs=1e-15)
