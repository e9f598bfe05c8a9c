"""FROC by hand on a four-image data set, every switch, and every degenerate case."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at, summarize_froc
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData
from tests.evaluation.scenes import make, random_data

# Two lesions in image 0, one in image 1, images 2 and 3 empty.
LESIONS = [(0, 0, 0), (0, 1, 0), (1, 0, 0)]
DETECTIONS = [
    (0, 0, 0.9),  # hit
    (0, 0, 0.6),  # second hit on the same lesion
    (0, 5, 0.8),  # false
    (1, 0, 0.5),  # hit
    (2, 0, 0.7),  # false, empty image
    (3, 0, 0.5),  # false, empty image, tied with the hit in image 1
    (3, 1, 0.2),  # false
]


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


@pytest.mark.parametrize(
    ("options", "fp", "sensitivity"),
    [
        ({"extra_hits": "fp"}, 5 / 4, 2 / 3),
        ({"matching": "greedy"}, 4 / 4, 2 / 3),
        ({"matching": "greedy", "extra_hits": "fp"}, 5 / 4, 2 / 3),
        ({"fp_images": "negative"}, 3 / 2, 2 / 3),
        ({"fp_images": "positive"}, 1 / 2, 2 / 3),
        ({"recall_unit": "image"}, 4 / 4, 1.0),
        ({"recall_unit": "patient"}, 4 / 4, 1.0),
        ({"max_detections": 1}, 2 / 4, 2 / 3),
    ],
)
def test_switches_at_the_last_point(options, fp, sensitivity):
    curve = froc_curve(froc_events(make(LESIONS, DETECTIONS), FrocRule(**options), 0))
    assert curve.fp_per_image[-1] == fp
    assert curve.sensitivity[-1] == pytest.approx(sensitivity)


def test_one_detection_may_find_two_lesions_unless_matching_is_one_to_one():
    data = make([(0, 0, 0), (0, 0, 0)], [(0, 0, 0.9)])
    assert froc_curve(froc_events(data, FrocRule(), 0)).sensitivity[-1] == 1
    assert froc_curve(froc_events(data, FrocRule(matching="greedy"), 0)).sensitivity[-1] == 0.5


def test_classes_are_apart_and_pooled_with_none():
    data = make([(0, 0, 0), (1, 0, 1)], [(0, 0, 0.9, 1), (1, 0, 0.8, 1)], classes=("malignant", "benign"))
    assert froc_curve(froc_events(data, FrocRule(), 0)).sensitivity[-1] == 0
    benign = froc_curve(froc_events(data, FrocRule(), 1))
    assert (benign.sensitivity[-1], benign.fp_per_image[-1]) == (1, 0.25)
    ignoring = froc_curve(froc_events(data, FrocRule(other_classes="ignore"), 1))
    assert ignoring.fp_per_image[-1] == 0
    assert froc_curve(froc_events(data, FrocRule(), None)).sensitivity[-1] == 1


def test_ignored_findings_and_crowd_regions_swallow_detections():
    data = make([(0, 0, 0), (1, 0, 0, {"ignore": 1}), (2, 0, 0, {"iscrowd": 1})], [(i, 0, 0.5) for i in range(4)])
    curve = froc_curve(froc_events(data, FrocRule(), 0))
    assert (curve.fp_per_image[-1], curve.sensitivity[-1]) == (0.25, 1)


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


def test_wrong_option_is_a_named_error():
    with pytest.raises(ValueError, match="matching='first' is none of any, best, greedy, hungarian"):
        FrocRule(matching="first")


def test_rule_prints_every_option_in_force():
    text = str(FrocRule(hit=HitRule("iom", 0.5), extra_hits="fp", fp_images="negative", interpolation="linear"))
    for part in ("IoM >= 0.5", "extra hits: fp", "over: negative images", "linear", "detections per image: all"):
        assert part in text


RULES = [
    FrocRule(hit=HitRule("iou", 0.3)),
    FrocRule(hit=HitRule("iom", 0.5), extra_hits="fp"),
    FrocRule(hit=HitRule("iou", 0.3), matching="best", extra_hits="fp"),
    FrocRule(hit=HitRule("iou", 0.3), matching="greedy", extra_hits="fp", recall_unit="image"),
    FrocRule(hit=HitRule("center_in_box"), matching="hungarian", fp_images="negative"),
]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(RULES), st.sampled_from([None, 5]))
def test_order_of_images_lesions_and_detections_changes_nothing(seed, rule, levels):
    data = random_data(seed % 50, classes=1, levels=levels)
    rng = np.random.default_rng(seed)
    images = rng.permutation(len(data.images))
    place = np.argsort(images)
    table = data.images
    columns = {name: getattr(table, name)[images] for name in ("patient", "exam", "breast", "truth", "size", "spacing")}
    shuffled = EvaluationData(
        dataclasses.replace(table, ids=tuple(table.ids[i] for i in images), **columns),
        _moved(data.lesions, place, rng),
        _moved(data.detections, place, rng),
    )
    first, second = (froc_curve(froc_events(d, rule, 0)) for d in (data, shuffled))
    for name in ("thresholds", "fp_per_image", "sensitivity"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def _moved(table, place, rng):
    table = table.take(rng.permutation(len(table)))
    return dataclasses.replace(table, image=place[table.image])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(RULES[:3]))
def test_a_copy_of_a_detection_with_a_lower_score_never_raises_the_curve(seed, rule):
    data = random_data(seed % 50, classes=1)
    if not len(data.detections):
        return
    rng = np.random.default_rng(seed)
    copies = data.detections.take(rng.integers(0, len(data.detections), 5))
    copies = dataclasses.replace(copies, scores=copies.scores * rng.random(5))
    names = ("boxes", "scores", "image", "label")
    both = DetectionTable(*(np.concatenate([getattr(t, n) for t in (data.detections, copies)]) for n in names))
    rates = tuple(np.linspace(0, 4, 30))
    before, after = (
        [p.sensitivity for p in sensitivity_at(froc_curve(froc_events(d, rule, 0)), rates, "step", "hold")]
        for d in (data, dataclasses.replace(data, detections=both))
    )
    assert (np.array(after) <= np.array(before)).all()


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
