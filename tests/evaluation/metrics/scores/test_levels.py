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
