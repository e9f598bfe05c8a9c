"""Saliency sums without upsampling, against maps that are really upsampled by torch."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.evaluation.metrics.localization.saliency_agreement import (
    SaliencySums,
    areas_of_boxes,
    areas_of_mask,
    continuous_sums,
    pointing_game,
    summarize_saliency,
)


def mask_of(boxes, size):
    mask = np.zeros(size, bool)
    for x0, y0, x1, y1 in boxes.astype(int):
        mask[y0:y1, x0:x1] = True
    return mask


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31))
def test_equal_to_the_upsampled_map(seed):
    rng = np.random.default_rng(seed)
    size, grid = tuple(rng.integers(5, 40, 2).tolist()), tuple(rng.integers(1, 12, 2).tolist())
    saliency = rng.random(grid)
    corner = rng.integers(0, 30, (int(rng.integers(1, 4)), 2))
    boxes = np.hstack([corner, corner + rng.integers(1, 15, corner.shape)]).astype(float)
    mask = mask_of(boxes, size)
    big = torch.nn.functional.interpolate(torch.tensor(saliency)[None, None], size=size, mode="nearest")[0, 0].numpy()
    for areas in (areas_of_mask(mask, grid), areas_of_boxes(boxes, size, grid)):
        assert areas.whole.sum() == size[0] * size[1]
        sums = continuous_sums(saliency, areas)
        assert sums.hit == pytest.approx((big * mask).sum(), abs=1e-9)
        assert sums.claimed == pytest.approx(big.sum(), abs=1e-9)
        assert sums.area == pytest.approx(mask.sum(), abs=1e-9)


def test_by_hand():
    # 2 x 2 map on a 4 x 4 image; the finding is the left half of the upper left cell.
    saliency = np.array([[0.5, 0.25], [0.0, 0.25]])
    sums = continuous_sums(saliency, areas_of_boxes(np.array([[0.0, 0, 1, 2]]), (4, 4), (2, 2)))
    assert (sums.hit, sums.claimed, sums.area) == (1.0, 4.0, 2.0)
    assert (sums.precision, sums.recall, sums.f1) == (0.25, 0.5, pytest.approx(1 / 3))


def test_overlapping_and_fractional_boxes_count_once():
    boxes = np.array([[0.0, 0, 1.5, 1], [0.5, 0, 2, 1], [-5, -5, 0.5, 1]])
    areas = areas_of_boxes(boxes, (2, 4), (1, 2))
    assert areas.mask.tolist() == [[2.0, 0.0]]


def test_a_dark_map_has_no_precision_but_recall_and_f1_of_zero():
    sums = SaliencySums(0.0, 0.0, 4.0)
    assert np.isnan(sums.precision)
    assert (sums.recall, sums.f1) == (0, 0)


def test_macro_and_pooled_averages():
    sums = [SaliencySums(1, 2, 4), SaliencySums(0, 0, 1), SaliencySums(0, 3, 0)]
    macro = summarize_saliency(sums)
    assert (macro.precision, macro.recall, macro.f1) == (0.5, 0.125, pytest.approx(1 / 6))
    assert (macro.images, macro.images_without_saliency) == (2, 1)
    pooled = summarize_saliency(sums, "pooled")
    assert (pooled.precision, pooled.recall, pooled.f1) == (0.5, 0.2, pytest.approx(2 / 7))
    assert np.isnan(summarize_saliency([]).f1)
    with pytest.raises(ValueError, match="'micro' is neither"):
        summarize_saliency(sums, "micro")


def test_pointing_game():
    saliency = np.zeros((2, 2))
    saliency[0, 1] = 1.0  # its centre is (6, 2) in an 8 x 8 image
    assert pointing_game(saliency, np.array([[5.0, 1, 7, 3]]), (8, 8)) == 1
    assert pointing_game(saliency, np.array([[0.0, 0, 4, 4]]), (8, 8)) == 0
    assert pointing_game(saliency, np.array([[0.0, 0, 4, 4]]), (8, 8), tolerance=2) == 1
    assert pointing_game(np.ones((2, 2)), np.array([[5.0, 1, 7, 3]]), (8, 8)) == 0.25
    assert np.isnan(pointing_game(saliency, np.zeros((0, 4)), (8, 8)))


def test_bad_maps_are_named_errors():
    areas = areas_of_mask(np.ones((4, 4), bool), (2, 2))
    with pytest.raises(ValueError, match="negative or non-finite"):
        continuous_sums(np.array([[0, -1], [0, 0]]), areas)
    with pytest.raises(ValueError, match=r"\(3, 2\) cells"):
        continuous_sums(np.zeros((3, 2)), areas)
