"""Classification numbers: by hand, against scikit-learn to 1e-12, and properties on random cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk

from mammo_d2.evaluation.metrics.scores.curves import (
    average_precision,
    partial_auc_ratio,
    probabilistic_f1,
    roc_auc,
    roc_curve,
    score_table,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    threshold_at_sensitivity,
    tnr_at_fnr,
)

# Scores and truth by hand: falling scores 9 8 7 6 5 4 3 2 with ties below.
TRUTH = np.array([1, 1, 0, 1, 0, 1, 0, 0])
SCORES = np.array([9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0])
TABLE = score_table(TRUTH, SCORES)


def both_classes(draw_truth):
    return 0 < sum(draw_truth) < len(draw_truth)


CASES = st.lists(st.tuples(st.booleans(), st.integers(0, 12)), min_size=2, max_size=40).filter(
    lambda cases: both_classes([y for y, _ in cases])
)


def arrays(cases):
    return np.array([int(y) for y, _ in cases]), np.array([s / 12 for _, s in cases])


def test_auc_by_hand():
    # Pairs won by the positives: 4 + 4 + 3 + 2 of 16.
    assert roc_auc(TABLE) == 13 / 16
    assert roc_auc(score_table([1, 0], [0.5, 0.5])) == 0.5


def test_roc_points_by_hand():
    curve = roc_curve(score_table([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1]))
    assert curve.thresholds.tolist() == [np.inf, 0.9, 0.5, 0.1]
    assert curve.tpr.tolist() == [0, 0.5, 1, 1]
    assert curve.fpr.tolist() == [0, 0, 0.5, 1]


def test_operating_points_by_hand():
    assert specificity_at_sensitivity(TABLE, 0.75) == 0.75
    assert specificity_at_sensitivity(TABLE, 0.76) == 0.5
    assert specificity_at_sensitivity(TABLE, 1.0) == 0.5
    assert threshold_at_sensitivity(TABLE, 0.75) == 6.0
    assert sensitivity_at_specificity(TABLE, 1.0) == 0.5
    assert sensitivity_at_specificity(TABLE, 0.75) == 0.75
    tied = score_table([1, 0, 1, 0], [0.9, 0.5, 0.5, 0.1])
    assert specificity_at_sensitivity(tied, 0.75) == 0.5
    assert specificity_at_sensitivity(tied, 0.75, "linear") == 0.75


def test_a_sensitivity_that_is_no_binary_fraction_means_whole_cases():
    table = score_table([1, 1, 1, 1, 1, 0], [6, 5, 4, 3, 1, 2])
    assert specificity_at_sensitivity(table, 0.8) == 1
    # 0.7 * 10 rounds to 7.000000000000001 or less, either way it is 7 cases.
    table = score_table([1] * 10 + [0], [*range(20, 10, -1), 13.5])
    assert specificity_at_sensitivity(table, 0.7) == 1


def test_tnr_at_fnr_counts_whole_misses():
    # Of 136 positives FNR 0, 1, 2, 3, 5 % allow 0, 1, 2, 4, 6 misses; negatives sit between the positives.
    truth = np.array([1, 0] * 136)
    scores = np.arange(272)[::-1].astype(float)
    table = score_table(truth, scores)
    for fnr, misses in ((0, 0), (0.01, 1), (0.02, 2), (0.03, 4), (0.05, 6)):
        assert tnr_at_fnr(table, fnr) == 1 - (135 - misses) / 136


def test_partial_auc_by_hand():
    # Sensitivity above 0.75 is reached at 2 of 4 false positives: specificity 0.5 over the whole band.
    assert partial_auc_ratio(TABLE, 0.75) == 0.5
    assert partial_auc_ratio(TABLE, 0.75, "raw") == 0.125
    assert partial_auc_ratio(TABLE, 0.0) == roc_auc(TABLE)
    # Band [0.5, 1]: specificity 0.75 over [0.5, 0.75], 0.5 over [0.75, 1].
    assert partial_auc_ratio(TABLE, 0.5) == 0.625
    chance = 0.5**2 / 2
    assert partial_auc_ratio(TABLE, 0.5, "chance") == pytest.approx(0.3125 / chance)
    assert partial_auc_ratio(TABLE, 0.5, "mcclish") == pytest.approx((1 + (0.3125 - chance) / (0.5 - chance)) / 2)


def test_partial_auc_of_one_tie_is_chance_when_linear_and_zero_by_steps():
    table = score_table([1, 0], [0.5, 0.5])
    assert partial_auc_ratio(table, 0.8) == pytest.approx(0.1, abs=1e-15)
    assert partial_auc_ratio(table, 0.8, interpolation="step") == 0


def test_probabilistic_f1_by_hand():
    table = score_table([1, 0, 1], [0.8, 0.4, 0.2])
    precision, recall = 1.0 / 1.4, 0.5
    assert probabilistic_f1(table) == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-15)
    assert probabilistic_f1(score_table([1, 0], [0.0, 0.0])) == 0
    assert probabilistic_f1(score_table([1, 0], [7.0, -3.0])) == 1


@pytest.mark.parametrize("truth", [[1, 1], [0, 0], []])
def test_one_class_only_is_nan(truth):
    table = score_table(np.array(truth, int), np.linspace(0, 1, len(truth)))
    assert np.isnan(roc_auc(table))
    assert np.isnan(partial_auc_ratio(table))
    assert np.isnan(specificity_at_sensitivity(table, 0.5))
    assert np.isnan(tnr_at_fnr(table, 0.0))
    assert np.isnan(sensitivity_at_specificity(table, 0.5))
    assert np.isnan(average_precision(table)) == (sum(truth) == 0)


@settings(max_examples=150, deadline=None)
@given(CASES)
def test_equal_to_scikit_learn(cases):
    y, s = arrays(cases)
    table = score_table(y, s)
    assert roc_auc(table) == pytest.approx(sk.roc_auc_score(y, s), abs=1e-12)
    assert average_precision(table) == pytest.approx(sk.average_precision_score(y, s), abs=1e-12)
    fpr, tpr, thresholds = sk.roc_curve(y, s, drop_intermediate=False)
    curve = roc_curve(table)
    np.testing.assert_allclose(curve.fpr, fpr, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curve.tpr, tpr, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(curve.thresholds, thresholds)
    mcclish = sk.roc_auc_score(1 - y, -s, max_fpr=0.2)
    assert partial_auc_ratio(table, 0.8, "mcclish") == pytest.approx(mcclish, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(CASES, st.sampled_from([0.0, 0.3, 0.5, 0.8, 0.95]))
def test_partial_area_is_the_integral_of_specificity(cases, low):
    table = score_table(*arrays(cases))
    grid = low + (1 - low) * (np.arange(4000) + 0.5) / 4000
    for interpolation in ("linear", "step"):
        mean = np.mean([specificity_at_sensitivity(table, u, interpolation) for u in grid[::40]])
        assert partial_auc_ratio(table, low, interpolation=interpolation) == pytest.approx(mean, abs=0.02)


@settings(max_examples=100, deadline=None)
@given(CASES, st.randoms(use_true_random=False))
def test_order_of_cases_changes_nothing_and_negated_scores_mirror_the_auc(cases, random):
    y, s = arrays(cases)
    order = list(range(len(y)))
    random.shuffle(order)
    for metric in (roc_auc, partial_auc_ratio, average_precision, probabilistic_f1):
        assert metric(score_table(y, s)) == metric(score_table(y[order], s[order]))
    assert roc_auc(score_table(y, -s)) == pytest.approx(1 - roc_auc(score_table(y, s)), abs=1e-15)


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(0, 2**31))
def test_integer_weights_equal_copies_to_the_last_bit(cases, seed):
    y, s = arrays(cases)
    weights = np.random.default_rng(seed).integers(0, 4, (len(y), 3))
    metrics = [
        roc_auc,
        partial_auc_ratio,
        lambda t: partial_auc_ratio(t, 0.77, "mcclish", "step"),
        lambda t: specificity_at_sensitivity(t, 0.85),
        lambda t: specificity_at_sensitivity(t, 0.85, "linear"),
        lambda t: sensitivity_at_specificity(t, 0.9),
        lambda t: tnr_at_fnr(t, 0.05),
        average_precision,
    ]
    table = score_table(y, s, weights)
    for metric in metrics:
        together = metric(table)
        for column in range(3):
            copied = metric(score_table(np.repeat(y, weights[:, column]), np.repeat(s, weights[:, column])))
            np.testing.assert_array_equal(together[column], copied)


@pytest.mark.parametrize(
    ("truth", "scores", "message"),
    [([0, 1], [0.5, np.nan], "1 score.* NaN"), ([0, 2], [0, 1], "other than 0 and 1"), ([0, 1], [1], "one length")],
)
def test_bad_input_is_a_named_error(truth, scores, message):
    with pytest.raises(ValueError, match=message):
        score_table(np.array(truth), np.array(scores, float))
