"""FROC curves by hand on a four-image data set, every reading of them, and every degenerate case."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at, summarize_froc
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from tests.evaluation.scenes import DETECTIONS, LESIONS, make, random_data


def test_curve_by_hand():
    curve = froc_curve(froc_events(make(LESIONS, DETECTIONS), FrocRule(), 0))
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.5, 0.2]
    assert curve.fp_per_image.tolist() == [0, 0, 0.25, 0.5, 0.75, 1.0]
    assert curve.sensitivity.tolist() == [0, 1 / 3, 1 / 3, 1 / 3, 2 / 3, 2 / 3]


def test_summary_by_hand_with_thresholds():
    rule = FrocRule(rates=(0.125, 0.5, 0.75, 4.0), mean_rates=(0.5, 4.0))
    summary = summarize_froc(froc_events(make(LESIONS, DETECTIONS), rule, 0), rule)
    assert [p.sensitivity for p in summary.points] == [1 / 3, 1 / 3, 2 / 3, 2 / 3]
    assert [p.threshold for p in summary.points] == [0.9, 0.7, 0.5, 0.2]
    assert [p.fp_per_image for p in summary.points] == [0, 0.5, 0.75, 1.0]
    assert summary.mean_sensitivity == pytest.approx(0.5)
    assert (summary.num_units, summary.num_images, summary.num_false_positives) == (3, 4, 4)
    assert summary.flat()["sens@0.75"] == 2 / 3
    assert summary.reason == ""


def test_linear_interpolation_lies_between_the_points():
    curve = froc_curve(froc_events(make(LESIONS, DETECTIONS), FrocRule(), 0))
    point = sensitivity_at(curve, (0.625,), "linear", "hold")[0]
    assert point.sensitivity == pytest.approx(0.5)
    assert point.threshold == 0.7


def summary_of(lesions, detections, **options):
    rule = FrocRule(**options)
    return summarize_froc(froc_events(make(lesions, detections), rule, 0), rule)


def test_perfect_detector_without_false_positives_scores_one():
    summary = summary_of(LESIONS, [(0, 0, 0.9), (0, 1, 0.9), (1, 0, 0.3)])
    assert summary.mean_sensitivity == 1
    assert {p.sensitivity for p in summary.points} == {1.0}
    assert {p.threshold for p in summary.points} == {0.3}


def test_no_detection_scores_zero():
    summary = summary_of(LESIONS, [])
    assert summary.mean_sensitivity == 0
    assert summary.points[0].threshold == np.inf


def test_no_lesion_is_nan_with_a_reason():
    summary = summary_of([], DETECTIONS)
    assert np.isnan(summary.mean_sensitivity)
    assert "no lesion" in summary.reason


def test_no_negative_image_is_nan_with_a_reason():
    summary = summary_of([(i, 0, 0) for i in range(4)], DETECTIONS, fp_images="negative")
    assert np.isnan(summary.mean_sensitivity)
    assert "no negative image" in summary.reason


def test_one_image():
    rule = FrocRule(rates=(0.5, 1.0))
    data = make([(0, 0, 0)], [(0, 3, 0.9), (0, 0, 0.8)], images=1)
    points = summarize_froc(froc_events(data, rule, 0), rule).points
    assert [p.sensitivity for p in points] == [0, 1]
    assert points[0].threshold == np.inf


def test_beyond_the_last_point():
    assert summary_of(LESIONS, DETECTIONS, rates=(8.0,)).mean_sensitivity == 2 / 3
    assert np.isnan(summary_of(LESIONS, DETECTIONS, rates=(8.0,), beyond="nan").mean_sensitivity)
    # A rate reached exactly is not beyond.
    assert summary_of(LESIONS, DETECTIONS, rates=(1.0,), beyond="nan").mean_sensitivity == 2 / 3


def test_area_ratio_shows_boxes_of_the_wrong_size():
    data = make(LESIONS, [(0, 0, 0.9), (1, 0, 0.5)])
    data.detections.boxes[0] = [1, 1, 2, 2]  # a 1 x 1 box in a 10 x 10 lesion is a hit by IoM
    rule = FrocRule(hit=HitRule("iom", 0.5))
    summary = summarize_froc(froc_events(data, rule, 0), rule)
    assert summary.hit_area_ratio == pytest.approx((0.0595, 0.505, 0.9505))
    assert summary.flat()["hit_area_ratio"] == pytest.approx(0.505)
    assert np.isnan(summary_of(LESIONS, []).hit_area_ratio[1])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000))
def test_curve_is_monotone_and_a_stricter_hit_rule_never_finds_more(seed):
    data = random_data(seed, classes=1)
    curves = [froc_curve(froc_events(data, FrocRule(hit=HitRule("iou", t)), 0)) for t in (0.2, 0.5, 0.8)]
    for curve in curves:
        assert (np.diff(curve.fp_per_image) >= 0).all()
        assert (np.diff(curve.sensitivity) >= 0).all() or np.isnan(curve.sensitivity).all()
    if len(data.lesions):
        assert curves[0].sensitivity[-1] >= curves[1].sensitivity[-1] >= curves[2].sensitivity[-1]
