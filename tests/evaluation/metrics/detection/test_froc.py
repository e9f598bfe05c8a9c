"""Which detections are hits and false positives: every switch of the rule, and what must change nothing."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events, froc_labels
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData
from tests.evaluation.scenes import DETECTIONS, LESIONS, make, random_data


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


def test_wrong_option_is_a_named_error():
    with pytest.raises(ValueError, match="matching='first' is none of any, best, greedy, hungarian"):
        FrocRule(matching="first")


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((0.5, float("nan")), "rates 0.5, nan: finite numbers >= 0"),
        ((float("inf"),), "rates inf: finite numbers >= 0"),
        ((-1.0, 1.0), "rates -1, 1: finite numbers >= 0"),
        ((1.0, 1.0000001), "rates 1, 1: two are equal in six digits"),
        ((), "at least one is needed"),
    ],
)
def test_rates_that_name_no_result_of_their_own_are_errors(rates, message):
    with pytest.raises(ValueError, match=message):
        FrocRule(rates=rates)


def test_a_class_named_like_the_pooled_result_is_an_error():
    assert froc_labels(["benign", "malignant"]) == [(0, "benign"), (1, "malignant"), (None, "all")]
    assert froc_labels(["all"]) == [(0, "all")]
    with pytest.raises(ValueError, match="class 'all' is named like the result of all classes together; rename"):
        froc_labels(["all", "malignant"])


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
