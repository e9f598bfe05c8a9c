"""FROC replicates are bit-equal to re-evaluating the copied data."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import draw_weights, estimate
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at, summarize_froc
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from tests.evaluation.scenes import copied, random_data

RULES = [
    FrocRule(hit=HitRule("iou", 0.3)),
    FrocRule(hit=HitRule("iou", 0.3), matching="greedy", extra_hits="fp", interpolation="linear"),
    FrocRule(hit=HitRule("center_in_box"), fp_images="positive", recall_unit="image", beyond="nan"),
    FrocRule(hit=HitRule("iom", 0.5), fp_images="negative", recall_unit="patient", interpolation="linear"),
]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("levels", [None, 6])
@pytest.mark.parametrize("seed", range(4))
def test_froc_replicates_equal_the_copied_data_to_the_last_bit(rule, levels, seed):
    data = random_data(seed, images=21, classes=1, levels=levels)
    events = froc_events(data, rule, 0)
    patients = int(data.images.patient.max()) + 1
    weights = draw_weights(patients, range(20), seed)
    statistic = FrocStatistic(events, data.images.patient, rule)
    values = statistic.replicate(weights)
    for column in range(weights.shape[1]):
        image_copies = weights[data.images.patient, column]
        weighted = sensitivity_at(froc_curve(events, image_copies), rule.rates, rule.interpolation, rule.beyond)
        np.testing.assert_array_equal(values[:-1, column], [p.sensitivity for p in weighted])
        if rule.recall_unit == "patient":
            continue  # copies of a patient are one unit when the data are copied under the same name
        copy = froc_events(copied(data, image_copies), rule, 0)
        again = sensitivity_at(froc_curve(copy), rule.rates, rule.interpolation, rule.beyond)
        np.testing.assert_array_equal(values[:-1, column], [p.sensitivity for p in again])
        np.testing.assert_array_equal(values[-1, column], summarize_froc(copy, rule).mean_sensitivity)


def test_estimate_is_the_curve_of_the_data():
    data = random_data(9, images=30, classes=1)
    rule = FrocRule(hit=HitRule("iou", 0.3))
    events = froc_events(data, rule, 0)
    found = estimate(FrocStatistic(events, data.images.patient, rule), int(data.images.patient.max()) + 1)
    points = sensitivity_at(froc_curve(events), rule.rates, "step", "hold")
    np.testing.assert_array_equal(found[:-1], [p.sensitivity for p in points])
