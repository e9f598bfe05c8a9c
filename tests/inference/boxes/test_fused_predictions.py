"""One prediction of several: boxes, scores, warnings, problems, models of other classes."""

from dataclasses import replace

import numpy as np
import pytest

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.reading.image_meta import ImageMeta
from mammo_d2.inference.boxes.fused_predictions import Ensemble, fused
from mammo_d2.inference.prediction_files import FileProblem, Prediction


def prediction(box, score, **more):
    meta, transform = ImageMeta("a", "png", 99, 99, 8, 255.0), ImageTransform.identity((99, 99))
    boxes, scores, labels = np.array([box], float), np.array([score]), np.zeros(1, np.int64)
    return Prediction("a", meta, transform, boxes, scores, labels, {"malignant": score}, **more)


FIRST = prediction([0, 0, 10, 10], 0.9, warnings=("dark", "small"), outside=1)
SECOND = prediction([0, 0, 10, 8], 0.6, warnings=("dark",), outside=2)


def test_boxes_are_fused_and_image_scores_averaged():
    both = fused([FIRST, SECOND], 0.55)
    np.testing.assert_allclose(both.boxes, [[0, 0, 10, 9.2]])
    assert both.scores.tolist() == [0.75]
    assert both.image_scores == {"malignant": 0.75}
    assert (both.warnings, both.outside) == (("dark", "small"), 3)
    assert fused([FIRST], 0.55) is FIRST
    far = replace(SECOND, boxes=np.array([[50.0, 50, 60, 60]]))
    assert len(fused([FIRST, far], 0.55).scores) == 2
    assert fused([FIRST, far], 0.55, most=1).boxes.tolist() == [[0, 0, 10, 10]]


class Member:
    def __init__(self, outcome, classes=("malignant",)):
        self.outcome, self.classes = outcome, classes

    def predict_batches(self, batches, *, strict, pictures):
        for batch in batches:
            yield [self.outcome] * len(batch)


def test_a_file_that_one_model_cannot_use_is_a_problem():
    batches = [[(1, "a"), (2, "a")], [(3, "a")]]
    outcomes = list(Ensemble([Member(FIRST), Member(SECOND)]).predict_batches(batches))
    assert [len(batch) for batch in outcomes] == [2, 1]
    np.testing.assert_allclose(outcomes[1][0].boxes, [[0, 0, 10, 9.2]])
    problem = FileProblem("a", "a: too small")
    assert list(Ensemble([Member(FIRST), Member(problem)]).predict_batches(batches[1:])) == [[problem]]


def test_models_of_other_classes_are_refused():
    with pytest.raises(ValueError, match="model 2 of 2 has the classes mass, the first one malignant"):
        Ensemble([Member(FIRST), Member(SECOND, ("mass",))])
