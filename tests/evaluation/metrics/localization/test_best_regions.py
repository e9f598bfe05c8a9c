"""The best regions of each class and whether they hit, by hand."""

import math

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class, first_hit_ranks
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, images_from_records, lesions_from_records
from tests.evaluation.region_scene import REGIONS, records

IOM = HitRule("iom", 0.5)


def test_the_best_of_each_class_in_falling_order():
    scores = np.array([0.1, 0.9, 0.5, 0.5, 0.2, 0.7])
    labels = np.array([0, 1, 0, 0, 1, 0])
    # class 0: 0.7, then the first of the two 0.5; class 1 has two boxes only
    assert best_of_each_class(scores, labels, 2).tolist() == [5, 2, 1, 4]
    assert best_of_each_class(scores, labels, 9).tolist() == [5, 2, 3, 0, 1, 4]
    assert best_of_each_class(np.zeros(0), np.zeros(0, np.int64), 3).tolist() == []


def test_a_count_must_be_positive():
    with pytest.raises(ValueError, match="got 0"):
        best_of_each_class(np.zeros(1), np.zeros(1, np.int64), 0)


def test_the_first_region_that_hits():
    image, label, left, score = (np.array(column) for column in zip(*REGIONS, strict=True))
    boxes = np.stack([left, 0 * left, left + 20, 0 * left + 20], axis=1)
    images = images_from_records(records(), ("benign", "malignant"))
    data = EvaluationData(images, lesions_from_records(records()), DetectionTable(boxes, score, image, label))
    nan, inf = math.nan, math.inf
    np.testing.assert_array_equal(first_hit_ranks(data, IOM), [[nan, 2], [1, inf], [nan, nan], [nan, nan]])
