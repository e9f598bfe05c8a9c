"""Running sums of weights against plain sums."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.evaluation.metrics.weighted_sums import SegmentSums, WeightedSums


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


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 300), st.sampled_from([5, 900, 60000]))
def test_segment_sums_equal_plain_sums(seed, events, most):
    rng = np.random.default_rng(seed)
    patient = rng.integers(0, 7, events)
    weights = rng.integers(0, most, (9, 3)).astype(np.uint16)  # two patients have no event
    bounds = np.sort(rng.integers(0, events + 1, 6))
    plain = [weights[patient[a:b]].astype(int).sum(axis=0) for a, b in pairwise(bounds)]
    np.testing.assert_array_equal(SegmentSums(patient, bounds).sums(weights), plain)


def test_long_segments_are_summed_in_pieces():
    patient = np.zeros(20_000, int)
    sums = SegmentSums(patient, np.array([0, 0, 4096, 20_000])).sums(np.array([[1, 15]], np.uint16))
    np.testing.assert_array_equal(sums, [[0, 0], [4096, 61_440], [15_904, 238_560]])
    np.testing.assert_array_equal(WeightedSums(patient, np.array([[16]], np.uint16)).total(), [320_000])
