import itertools
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.modeling.functional.saliency import (
    SaliencyBoxRule,
    crop_patches,
    crop_positions,
    minmax_normalize,
    random_windows,
    retrieve_windows,
    saliency_boxes,
    top_fraction_mean,
    window_cells,
)


def random_maps(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


class TestTopFraction:
    def test_hand_computed(self):
        saliency = torch.tensor([[[[0.1, 0.9], [0.5, 0.3]], [[0.2, 0.2], [0.2, 0.6]]]])
        torch.testing.assert_close(top_fraction_mean(saliency, 0.5), torch.tensor([[0.7, 0.4]]))
        torch.testing.assert_close(top_fraction_mean(saliency, 1.0), saliency.mean(dim=(2, 3)))

    @pytest.mark.parametrize(
        ("fraction", "count"), [(0.02, 28), (0.03, 41), (0.05, 69), (0.1, 138)], ids=lambda v: str(v)
    )
    def test_number_of_cells_of_the_released_models(self, fraction, count):
        saliency = random_maps(0, 1, 2, 46, 30)
        expected = saliency.flatten(2).sort(dim=2, descending=True).values[:, :, :count].mean(dim=2)
        torch.testing.assert_close(top_fraction_mean(saliency, fraction), expected)

    def test_at_least_one_cell_and_gradient_only_there(self):
        saliency = torch.tensor([[[[0.1, 0.9], [0.5, 0.3]]]], requires_grad=True)
        top_fraction_mean(saliency, 0.01).sum().backward()
        assert saliency.grad.flatten().tolist() == [0.0, 1.0, 0.0, 0.0]

    @pytest.mark.parametrize("fraction", [0.0, 1.5])
    def test_bad_fraction(self, fraction):
        with pytest.raises(ValueError, match=r"\(0, 1\]"):
            top_fraction_mean(torch.zeros(1, 1, 2, 2), fraction)


def test_minmax_per_class_and_constant_maps():
    saliency = torch.tensor([[[[2.0, 4.0, 3.0]], [[0.3, 0.3, 0.3]]]])
    assert minmax_normalize(saliency).tolist() == [[[[0.0, 1.0, 0.5]], [[0.0, 0.0, 0.0]]]]


def test_window_of_the_published_setting_and_of_others():
    assert window_cells((46, 30), (2944, 1920), (256, 256)) == (4, 4)
    assert window_cells((5, 4), (320, 256), (64, 128)) == (1, 2)
    assert window_cells((3, 3), (192, 192), (8, 1000)) == (1, 3)  # at least a cell, at most the map


def brute_force(saliency: np.ndarray, window: tuple[int, int], count: int) -> tuple[list, list]:
    """Algorithm 1 by loops over one image (C, h, w), in float64; also the sums of the windows taken."""
    total = np.zeros(saliency.shape[1:])
    for one in saliency.astype(np.float64):
        extent = one.max() - one.min()
        total += (one - one.min()) / extent if extent > 0 else 0
    found, sums = [], []
    for _ in range(count):
        best, place = -1.0, (0, 0)
        for i in range(total.shape[0] - window[0] + 1):
            for j in range(total.shape[1] - window[1] + 1):
                value = total[i : i + window[0], j : j + window[1]].sum()
                if value > best + 1e-6:  # equal up to float32 rounding: the first one
                    best, place = value, (i, j)
        found.append(list(place))
        sums.append(best)
        total[place[0] : place[0] + window[0], place[1] : place[1] + window[1]] = 0
    return found, sums


class TestRetrieval:
    def test_hand_computed(self):
        saliency = torch.tensor(
            [[[[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.5, 0.0], [0.0, 0.5, 0.0, 0.8], [0.0, 0.0, 0.0, 0.4]]]]
        )
        # 2x2 sums: (1, 1) has 2.0; with it gone (2, 2) has 0.8 + 0.4, then nothing is left
        assert retrieve_windows(saliency, (2, 2), 3).tolist() == [[[1, 1], [2, 2], [0, 0]]]

    @given(
        seed=st.integers(0, 10_000),
        h=st.integers(1, 9),
        w=st.integers(1, 9),
        classes=st.integers(1, 3),
        rows=st.integers(1, 4),
        columns=st.integers(1, 4),
        count=st.integers(1, 6),
    )
    @settings(max_examples=60, deadline=None, derandomize=True)
    def test_equal_to_brute_force_and_sums_never_increase(self, seed, h, w, classes, rows, columns, count):
        saliency = random_maps(seed, 1, classes, h, w)
        window = (min(rows, h), min(columns, w))
        found = retrieve_windows(saliency, (rows, columns), count)[0].tolist()
        expected, sums = brute_force(saliency[0].numpy(), window, count)
        assert found == expected
        assert all(later <= earlier + 1e-9 for earlier, later in itertools.pairwise(sums))

    def test_no_cell_is_counted_twice(self):
        saliency = random_maps(3, 1, 2, 12, 10)
        total = minmax_normalize(saliency)[0].sum(dim=0)
        counted = torch.zeros_like(total)
        gained = 0.0
        _, sums = brute_force(saliency[0].numpy(), (4, 4), 6)
        for i, j in retrieve_windows(saliency, (4, 4), 6)[0].tolist():
            counted[i : i + 4, j : j + 4] = 1
        gained = (total * counted).sum().item()
        assert gained == pytest.approx(sum(sums), rel=1e-5)  # each covered cell once, however windows overlap

    def test_images_of_a_batch_are_independent(self):
        saliency = random_maps(5, 3, 2, 11, 7)
        together = retrieve_windows(saliency, (3, 2), 4)
        alone = torch.cat([retrieve_windows(one[None], (3, 2), 4) for one in saliency])
        assert together.tolist() == alone.tolist()

    def test_constant_map(self):
        assert retrieve_windows(torch.full((1, 2, 5, 6), 0.3), (2, 2), 3).tolist() == [[[0, 0]] * 3]

    def test_one_constant_class_leaves_the_choice_to_the_other(self):
        saliency = torch.zeros(1, 2, 4, 4)
        saliency[0, 1, 2, 3] = 1
        assert retrieve_windows(saliency, (1, 1), 1).tolist() == [[[2, 3]]]

    def test_map_smaller_than_the_window(self):
        assert retrieve_windows(random_maps(0, 1, 2, 2, 3), (4, 4), 2).tolist() == [[[0, 0], [0, 0]]]

    def test_input_is_not_changed(self):
        saliency = random_maps(1, 1, 1, 5, 5)
        before = saliency.clone()
        retrieve_windows(saliency, (2, 2), 3)
        assert torch.equal(saliency, before)

    def test_bad_arguments(self):
        with pytest.raises(ValueError, match="at least one window"):
            retrieve_windows(torch.zeros(1, 1, 4, 4), (2, 2), 0)


def test_random_windows_lie_inside_and_follow_the_generator():
    draw = [random_windows((5, 7), (4, 2), (50, 6), torch.Generator().manual_seed(s)) for s in (0, 0, 1)]
    assert torch.equal(draw[0], draw[1])
    assert not torch.equal(draw[0], draw[2])
    assert draw[0][..., 0].unique().tolist() == [0, 1]
    assert draw[0][..., 1].unique().tolist() == [0, 1, 2, 3, 4, 5]


class TestCrops:
    def test_published_positions_are_multiples_of_64(self):
        cells = torch.tensor([[0, 0], [42, 26], [17, 3]])
        expected = [[0, 0], [2688, 1664], [1088, 192]]
        assert crop_positions(cells, (46, 30), (2944, 1920), (256, 256)).tolist() == expected

    @pytest.mark.parametrize(("cells", "pixels"), [(12, 50), (24, 50), (30, 1001), (46, 2945)])
    def test_other_sizes_are_rounded_exactly(self, cells, pixels):
        rows = torch.arange(cells)
        found = crop_positions(torch.stack([rows, rows], dim=-1), (cells, cells), (pixels, pixels), (1, 1))
        expected = [round(Fraction(row * pixels, cells)) for row in range(cells)]
        assert found.tolist() == [[at, at] for at in expected]

    def test_moved_inside_at_the_border_and_zero_if_the_image_is_smaller(self):
        cells = torch.tensor([[3, 2]])
        assert crop_positions(cells, (4, 3), (100, 90), (40, 120)).tolist() == [[60, 0]]

    def test_patches_are_the_image_there(self):
        images = random_maps(0, 2, 1, 9, 8)
        patches = crop_patches(images, torch.tensor([[[0, 0], [5, 3]], [[2, 1], [0, 4]]]), (4, 4))
        assert patches.shape == (2, 2, 1, 4, 4)
        assert torch.equal(patches[0, 1], images[0, :, 5:9, 3:7])
        assert torch.equal(patches[1, 0], images[1, :, 2:6, 1:5])

    def test_image_smaller_than_the_patch_is_padded_with_its_minimum(self):
        image = torch.tensor([[[[3.0, 2.0], [5.0, 4.0]]]])
        patch = crop_patches(image, torch.zeros(1, 1, 2, dtype=torch.int64), (3, 2))
        assert patch[0, 0, 0].tolist() == [[3.0, 2.0], [5.0, 4.0], [2.0, 2.0]]


class TestBoxes:
    def test_hand_computed(self):
        saliency = torch.zeros(2, 4, 5)
        saliency[1, 0, 0], saliency[1, 0, 1], saliency[1, 1, 1] = 0.8, 0.5, 0.4
        saliency[1, 3, 4], saliency[1, 2, 0] = 0.6, 0.39
        boxes, scores, classes = saliency_boxes(saliency, (40, 100), SaliencyBoxRule(0.5, 0.0, "max"), torch.ones(2))
        assert boxes.tolist() == [[0, 0, 40, 20], [80, 30, 100, 40]]
        assert scores.tolist() == pytest.approx([0.8, 0.6])
        assert classes.tolist() == [1, 1]

    @pytest.mark.parametrize(("score", "expected"), [("max", 0.8), ("mean", 0.6), ("max_times_image", 0.2)])
    def test_scores(self, score, expected):
        saliency = torch.tensor([[[0.8, 0.4]]])
        rule = SaliencyBoxRule(0.5, 0.0, score)
        assert saliency_boxes(saliency, (1, 2), rule, torch.tensor([0.25]))[1].tolist() == pytest.approx([expected])

    def test_diagonal_neighbours_are_one_component(self):
        boxes, _, _ = saliency_boxes(torch.eye(3)[None], (3, 3), SaliencyBoxRule(), torch.ones(1))
        assert boxes.tolist() == [[0, 0, 3, 3]]

    def test_floor_and_dark_map(self):
        rule = SaliencyBoxRule(0.5, 0.3)
        assert len(saliency_boxes(torch.full((1, 3, 3), 0.2), (3, 3), rule, torch.ones(1))[0]) == 0
        none = saliency_boxes(torch.zeros(1, 3, 3), (3, 3), SaliencyBoxRule(0.5, 0.0), torch.ones(1))
        assert [tuple(part.shape) for part in none] == [(0, 4), (0,), (0,)]

    def test_limit_keeps_the_best(self):
        saliency = torch.tensor([[[0.7, 0.0, 0.9, 0.0, 0.8]]])
        rule = SaliencyBoxRule(0.5, 0.0, "max", limit=2)
        assert saliency_boxes(saliency, (1, 5), rule, torch.ones(1))[1].tolist() == pytest.approx([0.9, 0.8])

    @pytest.mark.parametrize("bad", [{"threshold": 0.0}, {"floor": 2.0}, {"score": "sum"}, {"limit": 0}])
    def test_bad_rules(self, bad):
        with pytest.raises(ValueError, match="boxes from saliency"):
            SaliencyBoxRule(**bad)
