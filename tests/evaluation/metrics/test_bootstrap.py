"""Bootstrap weights, FROC replicates bit-equal to re-evaluating the copied data, intervals and paired comparison."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.evaluation.metrics.bootstrap import (
    BootstrapPlan,
    bootstrap,
    draw_weights,
    estimate,
    paired_comparison,
    percentile_interval,
)
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at, summarize_froc
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.weighted_sums import WeightedSums
from tests.evaluation.scenes import copied, make, random_data


def test_weights_keep_the_number_of_patients_of_each_stratum():
    strata = np.array([0] * 30 + [1] * 10)
    weights = draw_weights(40, range(50), 7, strata)
    assert weights.shape == (40, 50)
    assert (weights[:30].sum(axis=0) == 30).all()
    assert (weights[30:].sum(axis=0) == 10).all()
    assert (draw_weights(40, range(50), 7).sum(axis=0) == 40).all()


def test_a_replicate_depends_on_its_number_alone():
    whole = draw_weights(20, range(10), 3)
    np.testing.assert_array_equal(whole[:, 4:7], draw_weights(20, range(4, 7), 3))
    assert (draw_weights(20, range(10), 4) != whole).any()


def test_mean_of_the_weights_is_one():
    assert draw_weights(50, range(2000), 0).mean(axis=1) == pytest.approx(1, abs=0.12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 400))
def test_running_sums_equal_plain_sums(seed, events):
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 7, events)
    weights = rng.integers(0, 5, (7, 3)).astype(np.uint16)
    plain = np.vstack([np.zeros((1, 3), int), np.cumsum(weights[patient].astype(int), axis=0)])
    sums = WeightedSums(patient, weights)
    positions = rng.integers(0, events + 1, (4, 3))
    np.testing.assert_array_equal(sums.at(positions), plain[positions, np.arange(3)])
    np.testing.assert_array_equal(WeightedSums(patient, weights).at_all(positions[:, 0]), plain[positions[:, 0]])
    limits = rng.uniform(0, plain[-1].max() + 2, (5, 3))
    expected = (plain[1:][None] <= limits[:, None]).sum(axis=1)
    np.testing.assert_array_equal(WeightedSums(patient, weights).first_exceeding(limits), expected)
    np.testing.assert_array_equal(WeightedSums(patient, weights).total(), plain[-1])


def test_running_sums_of_large_weights_do_not_overflow():
    weights = np.full((1, 1), 60000, np.uint16)
    assert WeightedSums(np.zeros(1000, int), weights).total() == [60_000_000]


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


def test_bootstrap_draws_all_statistics_from_the_same_patients():
    data = make([(0, 0, 0), (2, 0, 0)], [(0, 0, 0.9)])
    events = froc_events(data, FrocRule(), 0)
    statistic = FrocStatistic(events, data.images.patient, FrocRule())
    values = bootstrap({"a": statistic, "b": statistic}, 2, BootstrapPlan(100, stratified=False))
    np.testing.assert_array_equal(values["a"], values["b"])
    assert values["a"].shape == (8, 100)
    # Patient 0 is found, patient 1 is not: the sensitivity is 0, 1/2 or 1.
    assert set(values["a"][-1]) == {0, 0.5, 1}


def test_no_lesion_drawn_is_an_undefined_replicate_and_is_counted():
    data = make([(0, 0, 0)], [(0, 0, 0.9)])
    statistic = FrocStatistic(froc_events(data, FrocRule(), 0), data.images.patient, FrocRule())
    values = bootstrap({"a": statistic}, 2, BootstrapPlan(200, stratified=False))["a"][-1]
    interval = percentile_interval(values, 0.95)
    assert interval.undefined == np.isnan(values).sum() > 20
    assert (interval.low, interval.high) == (1, 1)


def test_percentile_interval_by_hand():
    interval = percentile_interval(np.arange(101.0), 0.9)
    assert (interval.low, interval.high, interval.undefined) == (pytest.approx(5), pytest.approx(95), 0)
    assert np.isnan(percentile_interval(np.full(3, np.nan), 0.9).low)


def test_paired_comparison_by_hand():
    first, second = np.zeros(99), np.r_[np.full(4, -1.0), np.full(95, 1.0)]
    result = paired_comparison(0.0, 0.5, first, second, 0.95)
    assert result.difference == 0.5
    assert result.p == pytest.approx(9 / 100)
    assert paired_comparison(0, 0, first, first, 0.95).p == 1


def test_coverage_of_the_interval_is_near_its_confidence():
    # Mean of a Bernoulli "found" over 60 patients with one lesion each, 200 data sets.
    rng = np.random.default_rng(5)
    weights = draw_weights(60, range(200), 1).astype(float)
    inside = 0
    for _ in range(200):
        found = rng.random(60) < 0.7
        interval = percentile_interval(found @ weights / 60, 0.9)
        inside += interval.low <= 0.7 <= interval.high
    assert 0.82 <= inside / 200 <= 0.96


def test_bad_plan_is_a_named_error():
    with pytest.raises(ValueError, match="confidence 95"):
        BootstrapPlan(confidence=95)
