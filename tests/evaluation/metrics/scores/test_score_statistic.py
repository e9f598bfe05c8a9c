"""The standard set of classification numbers, and replicates equal to copied cases."""

import numpy as np

from mammo_d2.evaluation.metrics.scores.levels import level_cases, undefined_reason
from mammo_d2.evaluation.metrics.scores.score_statistic import (
    MeanStatistic,
    ScoreRule,
    ScoreStatistic,
    level_numbers,
)
from mammo_d2.evaluation.metrics.tables import images_from_records

NAN = float("nan")


def cases_of(truth, scores, patient=None):
    records = [
        {"image_id": n, "patient_id": n if patient is None else patient[n], "annotations": []}
        for n in range(len(truth))
    ]
    images = images_from_records(records, ("malignant",))
    return level_cases(images, np.array(truth, float), np.array(scores, float), "image")


def test_numbers_and_reasons_are_always_there():
    full = level_numbers(cases_of([1, 0], [0.9, 0.1]), ScoreRule())
    assert (full["auc"], full["sensitivity"], full["num_positive"]) == (1, 1, 1)
    for truth, word in (([1, 1], "no negative"), ([0, 0], "no positive"), ([NAN, NAN], "no case")):
        cases = cases_of(truth, [0.9, 0.1])
        numbers = level_numbers(cases, ScoreRule())
        assert list(numbers) == list(full)
        assert np.isnan(numbers["auc"])
        assert word in undefined_reason(cases)
    assert undefined_reason(cases_of([1, 0], [0.9, 0.1])) == ""


def test_score_replicates_equal_copies():
    rng = np.random.default_rng(0)
    patient = rng.integers(0, 12, 40)
    cases = cases_of(rng.integers(0, 2, 40), np.round(rng.random(40), 1), patient.tolist())
    weights = rng.integers(0, 4, (int(cases.patient.max()) + 1, 9)).astype(np.uint16)
    grid = np.linspace(0, 1, 11).tolist()
    statistic = ScoreStatistic(cases, ScoreRule(), grid)
    values = statistic.replicate(weights)
    exact = [row for row, key in enumerate(statistic.keys) if key != "pf1"]
    for column in range(9):
        copies = weights[cases.patient, column]
        copied = cases_of(np.repeat(cases.truth, copies), np.repeat(cases.scores, copies))
        ones = np.ones((len(copied.truth), 1), np.uint16)
        again = ScoreStatistic(copied, ScoreRule(), grid).replicate(ones)[:, 0]
        np.testing.assert_array_equal(values[exact, column], again[exact])
        np.testing.assert_allclose(values[:, column], again, rtol=0, atol=1e-12)


def test_weighted_means_leave_undefined_images_out():
    statistic = MeanStatistic(np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN]]), ["a", "b"], np.array([0, 0, 1]))
    values = statistic.replicate(np.array([[1, 2, 0], [1, 1, 0]], np.uint16))
    np.testing.assert_allclose(values, [[2, 5 / 3, NAN], [NAN, NAN, NAN]])
