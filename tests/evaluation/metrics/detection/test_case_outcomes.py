"""Outcomes of single cases by hand, and counts that agree with the curve."""

from dataclasses import replace

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.case_outcomes import OUTCOMES, case_outcomes, threshold_counts
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.presets import PRESETS
from tests.evaluation.scenes import DETECTIONS, LESIONS, make, random_data


def words(cases):
    return [OUTCOMES[number] for number in cases.outcome]


def test_outcomes_by_hand():
    cases = case_outcomes(make(LESIONS, DETECTIONS), FrocRule(), 0)
    assert words(cases) == ["hit", "extra", "false", "hit", "false", "false", "false"]
    assert cases.hit_lesion.tolist() == [0, 0, -1, 2, -1, -1, -1]
    assert cases.found_score.tolist() == [0.9, -np.inf, 0.5]
    assert cases.holder.tolist() == [0, -1, 3]
    np.testing.assert_array_equal(cases.iou, [1, np.nan, 1])


def test_extra_hits_other_classes_and_ignored_findings():
    lesions = [(0, 0, 0), (1, 0, 1), (2, 0, 0, {"ignore": 1})]
    data = make(lesions, [(0, 0, 0.9), (0, 0, 0.6), (1, 0, 0.8, 1), (2, 0, 0.7), (1, 0, 0.4)], classes=("a", "b"))
    cases = case_outcomes(data, FrocRule(extra_hits="fp", matching="greedy"), 0)
    assert words(cases) == ["hit", "false", "other", "uncounted", "false"]
    assert cases.hit_lesion.tolist() == [0, 0, -1, -1, -1]
    assert cases.in_class.tolist() == [True, False, True]
    best = case_outcomes(data, FrocRule(matching="best"), 0)
    assert words(best) == ["hit", "extra", "other", "ignored", "false"]
    assert best.hit_lesion.tolist() == [0, 0, -1, 2, -1]


def test_counts_by_hand():
    counts = threshold_counts(froc_events(make(LESIONS, DETECTIONS), FrocRule(), 0), [0.5, 0.95], [0.25, 100])
    assert counts.threshold.tolist() == [0.5, 0.95, 0.8, 0.2]
    np.testing.assert_array_equal(counts.rate, [np.nan, np.nan, 0.25, 100])
    assert counts.found.tolist() == [2, 0, 1, 2]
    assert counts.missed.tolist() == [1, 3, 2, 1]
    assert counts.false_positives.tolist() == [3, 0, 1, 4]
    assert counts.fp_per_image.tolist() == [0.75, 0, 0.25, 1]
    assert counts.images_with_false.tolist() == [3, 0, 1, 3]
    np.testing.assert_array_equal(counts.sensitivity, [2 / 3, 0, 1 / 3, 2 / 3])
    np.testing.assert_array_equal(counts.precision, [2 / 5, np.nan, 1 / 2, 2 / 6])


def test_nothing_to_find():
    counts = threshold_counts(froc_events(make([], [(0, 0, 0.5)]), FrocRule(), 0), [0.5], [1])
    assert np.isnan(counts.sensitivity).all()
    assert counts.false_positives.tolist() == [1, 1]
    empty = case_outcomes(make([], []), FrocRule(), 0)
    assert len(empty.outcome) == len(empty.holder) == 0


@pytest.mark.parametrize("name", PRESETS)
def test_outcomes_agree_with_the_events(name):
    data = random_data(7, images=20, crowd=True, levels=9)
    rule = replace(PRESETS[name].rule, recall_unit="lesion")
    for label in (0, 1, None):
        cases, events = case_outcomes(data, rule, label), froc_events(data, rule, label)
        false = data.detections.scores[cases.outcome == OUTCOMES.index("false")]
        np.testing.assert_array_equal(np.sort(false)[::-1], events.fp_scores)
        real = cases.in_class & ~data.lesions.ignore
        np.testing.assert_array_equal(np.sort(cases.found_score[real])[::-1], events.unit_scores)
        hits = np.flatnonzero(cases.outcome == OUTCOMES.index("hit"))
        assert set(hits) == set(cases.holder[real & (cases.holder >= 0)])
        assert set(hits) <= set(cases.holder[cases.hit_lesion[hits]])
