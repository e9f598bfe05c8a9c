"""Roles of boxes and lesions: those behind the curve, one by one, and the same numbers at every threshold."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_roles import froc_roles
from tests.evaluation.scenes import DETECTIONS, LESIONS, make, random_data


def test_roles_of_a_scene():
    roles = froc_roles(make(LESIONS, DETECTIONS), FrocRule(), 0)
    assert roles.is_hit.tolist() == [True, False, False, True, False, False, False]
    assert roles.is_false.tolist() == [False, False, True, False, True, True, True]
    assert roles.found_at.tolist() == [0.9, -np.inf, 0.5]
    assert froc_roles(make(LESIONS, DETECTIONS), FrocRule(extra_hits="fp"), 0).is_false[1]


def test_what_the_curve_does_not_count_has_no_score():
    lesions = [(0, 0, 0, {"iscrowd": 1}), (0, 1, 0, {"ignore": 1}), (0, 2, 1), (0, 3, 0)]
    data = make(lesions, [(0, 3, 0.5), (0, 2, 0.4, 1)], classes=("x", "y"))
    roles = froc_roles(data, FrocRule(), 0)
    assert np.isnan(roles.found_at[:3]).all()
    assert roles.found_at[3] == 0.5
    assert roles.is_hit.tolist() == [True, False]  # the box of another class takes no part
    assert not roles.is_false.any()


@pytest.mark.parametrize(
    "options",
    [{}, {"matching": "best", "extra_hits": "fp"}, {"matching": "greedy"}, {"max_detections": 2},
     {"fp_images": "negative"}, {"pooling": "same_class"}, {"other_classes": "ignore"}],
)  # fmt: skip
def test_roles_count_as_the_curve_does(options):
    data, rule = random_data(3, images=30), FrocRule(**options)
    for label in (0, 1, None):
        events, roles = froc_events(data, rule, label), froc_roles(data, rule, label)
        np.testing.assert_array_equal(np.sort(data.detections.scores[roles.is_false])[::-1], events.fp_scores)
        counted = roles.found_at[~np.isnan(roles.found_at)]
        np.testing.assert_array_equal(np.sort(counted)[::-1], events.unit_scores)
        np.testing.assert_array_equal(roles.events.counted, events.counted)
        np.testing.assert_array_equal(roles.events.fp_scores, events.fp_scores)
