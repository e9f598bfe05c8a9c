"""From boxes and image scores to cases: aggregation, unknown truth, decisions."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.scores.curves import rates_at, score_table
from mammo_d2.evaluation.metrics.scores.levels import (
    aggregate,
    aggregate_truth,
    combine_truth,
    level_cases,
    max_box_scores,
    positive_labels,
    undefined_reason,
)
from mammo_d2.evaluation.metrics.scores.score_statistic import (
    MeanStatistic,
    RocBand,
    ScoreRule,
    ScoreStatistic,
    level_numbers,
)
from mammo_d2.evaluation.metrics.tables import DetectionTable, images_from_records

NAN = float("nan")


def detections(*rows):
    """rows: (image, score, class)."""
    return DetectionTable(
        np.zeros((len(rows), 4)),
        np.array([r[1] for r in rows], float),
        np.array([r[0] for r in rows], np.int64),
        np.array([r[2] for r in rows], np.int64),
    )


def test_score_of_an_image_is_its_best_box_of_a_positive_class():
    found = detections((0, 0.3, 1), (0, 0.9, 0), (0, 0.6, 1), (2, 0.2, 1))
    assert max_box_scores(found, 4, [1]).tolist() == [0.6, 0, 0.2, 0]
    assert max_box_scores(found, 4, [0, 1]).tolist() == [0.9, 0, 0.2, 0]
    assert max_box_scores(detections(), 2, [0]).tolist() == [0, 0]


def test_an_image_without_box_ranks_below_negative_scores():
    assert max_box_scores(detections((0, -3.0, 0), (1, 2.0, 0)), 3, [0]).tolist() == [-3, 2, -4]


def test_truth_over_classes_and_images():
    truth = np.array([[0, 1], [0, NAN], [0, 0], [NAN, 1]])
    np.testing.assert_array_equal(combine_truth(truth), [1, NAN, 0, 1])
    np.testing.assert_array_equal(
        aggregate_truth(np.array([0, 1, 0, NAN, 0, 0]), np.array([0, 0, 1, 1, 2, 2])), [1, NAN, 0]
    )


def test_aggregation_by_max_and_mean_leaves_missing_scores_out():
    values, group = np.array([0.2, 0.6, NAN, 0.4, NAN]), np.array([0, 0, 1, 1, 2])
    np.testing.assert_array_equal(aggregate(values, group, "max"), [0.6, 0.4, NAN])
    np.testing.assert_allclose(aggregate(values, group, "mean"), [0.4, 0.4, NAN])
    with pytest.raises(ValueError, match="'median' is neither max nor mean"):
        aggregate(values, group, "median")


def test_cases_of_a_level_mask_and_count_the_unknown():
    records = [{"image_id": n, "patient_id": n // 2, "annotations": []} for n in range(8)]
    images = images_from_records(records, ("malignant",))
    truth = np.array([1, NAN, 0, NAN, 0, 0, NAN, NAN])
    scores = np.array([0.1, 0.9, 0.2, 0.3, 0.4, NAN, 0.5, 0.6])
    cases = level_cases(images, truth, scores, "patient")
    assert (cases.truth.tolist(), cases.scores.tolist(), cases.patient.tolist()) == ([1, 0], [0.9, 0.4], [0, 2])
    assert (cases.unknown, cases.unscored) == (2, 0)
    cases = level_cases(images, truth, scores, "image")
    assert (cases.truth.tolist(), cases.unknown, cases.unscored) == ([1, 0, 0], 4, 1)


def test_threshold_strict_and_not():
    table = score_table([1, 1, 0, 0], [0.5, 0.9, 0.5, 0.1])
    assert rates_at(table, 0.5, strict=True) == (0.5, 1.0, 0.75)
    assert rates_at(table, 0.5, strict=False) == (1.0, 0.5, 0.75)
    assert rates_at(table, 2.0) == (0.0, 1.0, 0.5)


def test_positive_classes():
    assert positive_labels(("benign", "malignant"), ()) == [1]
    assert positive_labels(("mass", "calcification"), ()) == [0, 1]
    assert positive_labels(("benign", "malignant"), ("benign",)) == [0]
    with pytest.raises(ValueError, match="'cancer' is not evaluated; the classes are benign, malignant"):
        positive_labels(("benign", "malignant"), ("cancer",))


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
    statistic = ScoreStatistic(cases, ScoreRule())
    values = statistic.replicate(weights)
    exact = [row for row, key in enumerate(statistic.keys) if key != "pf1"]
    band = RocBand(cases, np.linspace(0, 1, 11)).replicate(weights)
    for column in range(9):
        copies = weights[cases.patient, column]
        copied = cases_of(np.repeat(cases.truth, copies), np.repeat(cases.scores, copies))
        again = ScoreStatistic(copied, ScoreRule()).replicate(np.ones((len(copied.truth), 1), np.uint16))[:, 0]
        np.testing.assert_array_equal(values[exact, column], again[exact])
        np.testing.assert_allclose(values[:, column], again, rtol=0, atol=1e-12)
        ones = np.ones((len(copied.truth), 1), np.uint16)
        np.testing.assert_allclose(
            band[:, column], RocBand(copied, np.linspace(0, 1, 11)).replicate(ones)[:, 0], atol=1e-12
        )


def test_weighted_means_leave_undefined_images_out():
    statistic = MeanStatistic(np.array([[1.0, NAN, 3.0], [NAN, NAN, NAN]]), ["a", "b"], np.array([0, 0, 1]))
    values = statistic.replicate(np.array([[1, 2, 0], [1, 1, 0]], np.uint16))
    np.testing.assert_allclose(values, [[2, 5 / 3, NAN], [NAN, NAN, NAN]])
