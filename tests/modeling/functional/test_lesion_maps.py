"""Maps, scores and weights of the lesion classifier against hand-computed values."""

import math

import pytest
import torch

from mammo_d2.modeling.functional.lesion_maps import (
    average_windows,
    class_weights,
    combine_maps,
    count_maps,
    embedding_maps,
    indicator_maps,
    malignancy_scores,
    weighted_cross_entropy,
)


def one_indicator(window, size=(40, 60), grid=(4, 3)):
    """Cells of 10 rows and 20 columns by default."""
    return indicator_maps(torch.tensor([window], dtype=torch.float32), torch.tensor([size]), grid)[0, 0]


def test_window_on_cell_borders_covers_whole_cells():
    expected = torch.zeros(4, 3)
    expected[1:3, 2] = 1.0
    assert torch.equal(one_indicator([40, 10, 60, 30]), expected)


def test_window_inside_a_cell_covers_its_share_of_the_area():
    expected = torch.zeros(4, 3)
    expected[0, 1] = (5 * 4) / (20 * 10)
    torch.testing.assert_close(one_indicator([22, 3, 27, 7]), expected)


def test_window_over_cell_borders_is_shared_by_area():
    # Columns 15..30: 5 of the first cell's 20, 10 of the second's. Rows 8..21: 2, 10 and 1 of 10.
    rows, columns = torch.tensor([0.2, 1.0, 0.1, 0.0]), torch.tensor([0.25, 0.5, 0.0])
    torch.testing.assert_close(one_indicator([15, 8, 30, 21]), rows[:, None] * columns[None])


def test_indicator_sums_to_the_windows_area_where_cells_do_not_divide_the_image():
    result = one_indicator([301.5, 977.25, 684, 1233], size=(2943, 1921), grid=(46, 30))
    cell = (2943 / 46) * (1921 / 30)
    assert float(result.sum()) * cell == pytest.approx((684 - 301.5) * (1233 - 977.25), rel=1e-5)


def test_what_lies_outside_the_image_covers_nothing():
    expected = torch.zeros(4, 3)
    expected[0, 0] = 0.5 * 0.25
    torch.testing.assert_close(one_indicator([-7, -9, 5, 5]), expected)


def test_each_patch_has_the_grid_of_its_own_image():
    windows = torch.tensor([[0.0, 0.0, 10.0, 10.0]] * 2)
    maps = indicator_maps(windows, torch.tensor([[20, 20], [40, 40]]), (2, 2))
    assert maps[:, 0, 0, 0].tolist() == [1.0, 0.25]
    assert maps.sum() == 1.25


def test_embedding_fills_every_touched_cell_with_its_value():
    indicator = torch.tensor([[[[0.01, 0.0], [1.0, 0.5]]]])
    maps = embedding_maps(indicator, torch.tensor([[2.0, -3.0]]))
    assert maps.tolist() == [[[[2.0, 0.0], [2.0, 2.0]], [[-3.0, 0.0], [-3.0, -3.0]]]]


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (["indicator"], [0.5]),
        (["embedding"], [7.0, 8.0]),
        (["saliency"], [0.1, 0.2]),
        (["embedding", "indicator"], [0.5, 7.0, 8.0]),
        (["indicator", "saliency"], [0.5, 0.1, 0.2]),
        (["saliency", "embedding"], [7.0, 8.0, 0.1, 0.2]),
        (["indicator", "embedding", "saliency"], [0.5, 7.0, 8.0, 0.1, 0.2]),
    ],
)
def test_every_combination_has_its_maps_in_a_fixed_order(kinds, expected):
    maps = combine_maps(
        kinds, torch.full((1, 1, 1, 1), 0.5), torch.tensor([[7.0, 8.0]]), torch.tensor([0.1, 0.2]).view(1, 2, 1, 1)
    )
    torch.testing.assert_close(maps.flatten(), torch.tensor(expected))
    assert count_maps(kinds, 2, 2) == len(expected)


def test_the_papers_best_combination_has_34_maps():
    assert count_maps(["embedding", "saliency"], 32, 2) == 34


@pytest.mark.parametrize("kinds", [[], ["saliency", "saliency"], ["salience"]])
def test_wrong_combinations_are_named(kinds):
    with pytest.raises(ValueError, match=r"MODEL.LESION.MAPS"):
        count_maps(kinds, 32, 2)


def test_a_kind_without_its_values_is_an_error():
    with pytest.raises(ValueError, match="no embedding values"):
        combine_maps(["embedding"], torch.ones(1, 1, 2, 2))


def test_scores_are_normalised_over_malignant_and_benign():
    # Softmax (0.3, 0.1, 0.4, 0.2): 0.3 / (0.3 + 0.1).
    logits = torch.tensor([[0.3, 0.1, 0.4, 0.2]]).log()
    assert float(malignancy_scores(logits)) == pytest.approx(0.75)
    # Both probabilities underflow in the softmax; their ratio does not.
    sure = torch.tensor([[-500.0, -500.0 + math.log(3), 0.0, 0.0]])
    assert float(malignancy_scores(sure)) == pytest.approx(0.25, abs=1e-4)


def test_windows_are_averaged_lesion_by_lesion():
    means = average_windows(torch.tensor([0.2, 0.9, 0.4]), torch.tensor([0, 1, 0]), 3)
    assert means[:2].tolist() == pytest.approx([0.3, 0.9])
    assert means[2].isnan()


def test_class_weights_are_inverse_frequencies():
    weights = class_weights([20, 35, 5000, 4945])
    assert weights.tolist() == pytest.approx([10000 / 80, 10000 / 140, 0.5, 10000 / 19780])
    assert class_weights([1, 0, 3, 0]).tolist() == pytest.approx([2.0, 0.0, 2 / 3, 0.0])


@pytest.mark.parametrize("counts", [[0, 0], [-1, 2]])
def test_impossible_counts_are_an_error(counts):
    with pytest.raises(ValueError, match="numbers of patches"):
        class_weights(counts)


def test_weighted_cross_entropy_in_both_averages():
    logits = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    targets, weights = torch.tensor([0, 1]), torch.tensor([3.0, 1.0])
    total = 3 * math.log(4) + math.log(2)
    assert float(weighted_cross_entropy(logits, targets, weights)) == pytest.approx(total / 2)
    assert float(weighted_cross_entropy(logits, targets, weights, by_weight=True)) == pytest.approx(total / 4)


def test_no_patch_gives_zero_with_a_graph():
    logits = torch.zeros(0, 4, requires_grad=True)
    loss = weighted_cross_entropy(logits, torch.zeros(0, dtype=torch.int64), torch.ones(4))
    loss.backward()
    assert float(loss.detach()) == 0.0
