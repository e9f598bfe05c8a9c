"""Localisation where the classifier calls an image positive."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.called_positive import called_positive, only_in
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import summarize_froc
from tests.evaluation.scenes import make

# Images 0, 1 and 2 have a lesion of class 0 at place 0, image 3 has one of class 1, image 4 none.
LESIONS = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (3, 0, 1)]
# Image scores of the two classes.
SCORES = np.array([[0.9, 0.1], [0.6, 0.2], [0.3, 0.1], [0.7, 0.8], [0.5, 0.4]])
# A hit in every image with a lesion, and a miss of class 0 in each of the others.
FOUND = [(0, 0, 0.5), (1, 0, 0.4), (2, 0, 0.9), (3, 1, 0.45), (4, 0, 0.8), (3, 0, 0.3, 1)]
RULE = FrocRule(recall_unit="image", rates=(0.0, 0.2))


def scene():
    return make(LESIONS, FOUND, images=5, classes=("benign", "malignant"))


@pytest.mark.parametrize(
    ("label", "sensitivity", "expected", "threshold"),
    [
        (0, 0.6, [True, True, False, True, False], 0.6),
        (0, 0.67, [True] * 5, 0.3),
        (0, 0.3, [True, False, False, False, False], 0.9),
        (1, 1.0, [False, False, False, True, False], 0.8),
        # any class: scores 0.9, 0.6, 0.3, 0.8, 0.5; four images have one
        (None, 0.75, [True, True, False, True, False], 0.6),
    ],
)
def test_called_positive(label, sensitivity, expected, threshold):
    called, found = called_positive(scene(), SCORES, label, sensitivity)
    assert called.tolist() == expected
    assert found == threshold


def test_unknown_truth_does_not_move_the_threshold_and_its_images_may_be_called():
    data = scene()
    data.images.truth[0, 0] = np.nan
    called, threshold = called_positive(data, SCORES, 0, 0.5)
    assert threshold == 0.6  # one of the two known ones
    assert called.tolist() == [True, True, False, True, False]


def test_a_class_that_no_image_has():
    called, threshold = called_positive(make([], [], images=2), np.ones((2, 1)), 0, 0.85)
    assert called.all()
    assert np.isnan(threshold)


def test_only_one_class_is_cut():
    data = only_in(scene(), np.array([True, False, False, False, False]), 0)
    assert (data.lesions.image.tolist(), data.lesions.label.tolist()) == ([0, 3], [0, 1])
    assert (data.detections.image.tolist(), data.detections.label.tolist()) == ([0, 3], [0, 1])
    assert len(data.images) == 5
    assert len(only_in(scene(), np.zeros(5, bool), None).detections) == 0


def test_recall_is_that_of_the_true_positive_images():
    """Of three images with the class two are called positive; the miss in image 3 counts, that in image 4 does not."""
    data = scene()
    everywhere = summarize_froc(froc_events(data, RULE, 0), RULE)
    assert everywhere.flat()["sens@0"] == pytest.approx(1 / 3)  # the miss in image 4 comes second
    called, _ = called_positive(data, SCORES, 0, 0.6)
    among = summarize_froc(froc_events(only_in(data, called, 0), RULE, 0), RULE).flat()
    assert among["sens@0"] == pytest.approx(1 / 2)
    assert among["sens@0.2"] == pytest.approx(1.0)  # one false positive in five images
    assert among["num_images"] == 2
