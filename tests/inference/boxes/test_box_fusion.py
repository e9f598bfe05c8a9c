"""Weighted box fusion against numbers worked out by hand."""

import numpy as np
import pytest

from mammo_d2.inference.boxes.box_fusion import fuse_boxes


def source(boxes, scores, labels=None):
    labels = np.zeros(len(scores), int) if labels is None else np.array(labels)
    return np.array(boxes, float).reshape(-1, 4), np.array(scores, float), labels


def test_two_models_agree_and_one_is_alone():
    first = source([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.4])
    second = source([[0, 0, 10, 8]], [0.6])
    boxes, scores, labels = fuse_boxes([first, second])
    # (0.9 * 10 + 0.6 * 8) / 1.5 = 9.2; the mean of both scores; half the score of the box that one of two has found.
    np.testing.assert_allclose(boxes, [[0, 0, 10, 9.2], [50, 50, 60, 60]])
    np.testing.assert_allclose(scores, [0.75, 0.2])
    assert labels.tolist() == [0, 0]


def test_boxes_of_other_classes_or_little_overlap_stay_apart():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 10], [5, 0, 15, 10]]
    fused, scores, labels = fuse_boxes([source(boxes, [0.9, 0.8, 0.7], [0, 1, 0])])
    np.testing.assert_allclose(fused, boxes)
    assert labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(scores, [0.9, 0.8, 0.7])


def test_a_cluster_moves_as_boxes_join_it():
    # The third box overlaps the first by 1/3, the fused one of the first two by more than 0.4.
    chain = source([[0, 0, 10, 1], [3, 0, 13, 1], [5, 0, 15, 1]], [0.5, 0.5, 0.5])
    boxes, scores, _ = fuse_boxes([chain, source([], [])], iou=0.4)
    np.testing.assert_allclose(boxes, [[8 / 3, 0, 38 / 3, 1]])
    np.testing.assert_allclose(scores, [0.5])  # three boxes of two models: no more than both


def test_more_boxes_than_models_do_not_raise_a_score():
    boxes, scores, _ = fuse_boxes([source([[0, 0, 4, 4]] * 3, [0.6, 0.6, 0.6])])
    np.testing.assert_allclose(boxes, [[0, 0, 4, 4]])
    np.testing.assert_allclose(scores, [0.6])


def test_empty_and_scoreless_sources():
    boxes, scores, labels = fuse_boxes([source([], []), source([], [])])
    assert boxes.shape == (0, 4)
    assert (len(scores), labels.dtype) == (0, np.int64)
    boxes, scores, _ = fuse_boxes([source([[1, 2, 3, 4], [1, 2, 3, 4]], [0.0, 0.0])])
    np.testing.assert_array_equal(boxes, [[1, 2, 3, 4]])
    np.testing.assert_array_equal(scores, [0])


@pytest.mark.parametrize(("sources", "iou"), [([], 0.5), ([source([], [])], 1.5)])
def test_bad_arguments(sources, iou):
    with pytest.raises(ValueError, match="box fusion needs sources"):
        fuse_boxes(sources, iou)
