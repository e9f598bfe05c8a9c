"""Bootstrap weights, undefined replicates, intervals and paired comparison."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import (
    BootstrapPlan,
    bootstrap,
    draw_weights,
    paired_comparison,
    percentile_interval,
)
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_statistic import FrocStatistic
from tests.evaluation.scenes import make


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
