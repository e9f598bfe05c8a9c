"""Boxes, scores and maps of one image as a picture: what is drawn where."""

import numpy as np
import pytest

from mammo_d2.pictures.drawing import PREDICTION_COLOR, TRUTH_COLOR
from mammo_d2.pictures.prediction_picture import prediction_picture

PIXELS = np.add.outer(np.arange(200.0), np.arange(100.0))
NONE = np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64)
TRUTH = np.array([[10.0, 20, 40, 60]]), np.array([0])


def has(picture, row, column, color):
    return tuple(picture[8 + row, 8 + column]) == color  # 8 pixels of gap


def test_truth_and_the_best_boxes_are_framed():
    boxes = np.array([[50.0, 100, 90, 150], [5.0, 160, 30, 190]])
    predictions = boxes, np.array([0.25, 0.75]), np.array([0, 0])
    both = prediction_picture(PIXELS, ["malignant"], TRUTH, predictions)
    assert has(both, 40, 10, TRUTH_COLOR)
    assert has(both, 125, 50, PREDICTION_COLOR)
    assert has(both, 175, 5, PREDICTION_COLOR)
    best = prediction_picture(PIXELS, ["malignant"], TRUTH, predictions, top=1)
    assert not has(best, 125, 50, PREDICTION_COLOR)
    assert has(best, 175, 5, PREDICTION_COLOR)


def test_boxes_shrink_with_the_image():
    picture = prediction_picture(PIXELS, ["malignant"], TRUTH, NONE, side=100)
    assert has(picture, 20, 5, TRUTH_COLOR)


def test_each_class_has_a_panel_of_its_saliency():
    saliency = np.zeros((2, 4, 2), np.float32)
    saliency[1, 3, 1] = 1.0  # the lower right corner
    plain = prediction_picture(PIXELS, ["benign", "malignant"], TRUTH, NONE)
    picture = prediction_picture(PIXELS, ["benign", "malignant"], TRUTH, NONE, saliency)
    assert picture.shape[1] == plain.shape[1] + 2 * (100 + 8)
    red, green, blue = picture[8 + 190, 8 + 2 * (100 + 8) + 90].astype(int)
    assert red > green + 50
    assert red > blue + 50
    with pytest.raises(ValueError, match=r"saliency of shape \(1, 4, 2\) is not one map for each of 2 class"):
        prediction_picture(PIXELS, ["benign", "malignant"], TRUTH, NONE, saliency[:1])
