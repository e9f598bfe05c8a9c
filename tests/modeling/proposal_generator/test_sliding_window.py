import pytest
import torch

from mammo_d2.framework import ImageList
from mammo_d2.modeling.proposal_generator.sliding_window import SlidingWindowRegions, grid_spans, overlap_weights


def image_list(*sizes) -> ImageList:
    height, width = max(h for h, _ in sizes), max(w for _, w in sizes)
    return ImageList(torch.zeros(len(sizes), 1, height, width), list(sizes))


def boxes_of(proposals) -> list[list[list[float]]]:
    return [image.proposal_boxes.tensor.tolist() for image in proposals]


@pytest.mark.parametrize(
    ("side", "starts"), [(448, [0, 112, 224]), (460, [0, 112, 224, 236]), (224, [0]), (300, [0, 76])]
)
def test_spans_reach_the_border(side, starts):
    assert grid_spans(side, 224, 112).tolist() == [[start, start + 224.0] for start in starts]


def test_a_short_side_has_one_short_window():
    assert grid_spans(100, 224, 112).tolist() == [[0.0, 100.0]]


def test_overlap_weights():
    # Cells of 4: the span 2..8 has 2 of its 6 in the first and 4 in the second, 6..12 has 2 in the second.
    weights = overlap_weights(torch.tensor([[2.0, 8.0], [6.0, 12.0]]), cells=3, cell=4)
    torch.testing.assert_close(weights, torch.tensor([[2.0, 4.0, 0.0], [0.0, 2.0, 4.0]]) / 6)


def test_full_size_mammogram_has_the_papers_grid():
    (boxes,) = boxes_of(SlidingWindowRegions()(image_list((2944, 1920)))[0])
    # 25 and 16 full steps, and one window moved to each border
    assert len(boxes) == 26 * 17
    assert boxes[1] == [112.0, 0.0, 336.0, 224.0]
    assert boxes[-1] == [1696.0, 2720.0, 1920.0, 2944.0]


def test_without_tissue_every_window_of_every_image_is_kept():
    generator = SlidingWindowRegions(window=4, stride=2)
    proposals, losses = generator(image_list((4, 8), (4, 4)), {}, None, tissue=[None, None])
    assert boxes_of(proposals) == [[[0, 0, 4, 4], [2, 0, 6, 4], [4, 0, 8, 4]], [[0, 0, 4, 4]]]
    assert losses == {}
    assert len(proposals[0].objectness_logits) == 3


class TestTissue:
    """A row of four cells of 4 pixels, windows of 8 with stride 4: each covers two cells."""

    def windows(self, breast, pectoral, **kwargs) -> list[float]:
        generator = SlidingWindowRegions(window=8, stride=4, tissue_cell=4, **kwargs)
        tissue = torch.tensor([[breast] * 2, [pectoral] * 2])
        (boxes,) = boxes_of(generator(image_list((8, 16)), tissue=[tissue])[0])
        return [box[0] for box in boxes]

    def test_half_breast_is_kept_and_less_is_not(self):
        assert self.windows([1.0, 1.0, 0.0, 0.0], [0.0] * 4) == [0.0, 4.0]
        assert self.windows([1.0, 0.98, 0.0, 0.0], [0.0] * 4) == [0.0]

    def test_more_than_half_muscle_is_dropped(self):
        assert self.windows([1.0] * 4, [1.0, 1.0, 0.0, 0.0]) == [4.0, 8.0]
        assert self.windows([1.0] * 4, [1.0, 1.0, 0.1, 0.0]) == [8.0]

    def test_limits_are_settings(self):
        assert self.windows([0.4, 0.4, 0.0, 0.0], [0.3] * 4, min_breast=0.4, max_pectoral=0.3) == [0.0]
        assert self.windows([0.4, 0.4, 0.0, 0.0], [0.3] * 4, min_breast=0.4, max_pectoral=1.0) == [0.0]

    def test_cells_that_reach_beyond_the_image_count_with_what_is_inside(self):
        """10 pixels are two and a half cells: if all is breast the last column is half full, the corner a quarter."""
        generator = SlidingWindowRegions(window=8, stride=4, tissue_cell=4, min_breast=1.0, max_pectoral=0.5)
        full = torch.tensor([[1.0, 1.0, 0.5], [1.0, 1.0, 0.5], [0.5, 0.5, 0.25]])
        (boxes,) = boxes_of(generator(image_list((10, 10)), tissue=[torch.stack([full, full * 0])])[0])
        assert boxes == [[0, 0, 8, 8], [2, 0, 10, 8], [0, 2, 8, 10], [2, 2, 10, 10]]
        muscle = full.clone()
        muscle[:, :1] = 0.0  # of the left windows it is half, of the right ones three quarters
        (boxes,) = boxes_of(generator(image_list((10, 10)), tissue=[torch.stack([full, muscle])])[0])
        assert boxes == [[0, 0, 8, 8], [0, 2, 8, 10]]

    def test_the_best_window_is_kept_if_none_qualifies(self):
        assert self.windows([0.1, 0.1, 0.2, 0.3], [0.0, 0.0, 0.0, 0.2]) == [4.0]
        assert self.windows([0.0] * 4, [0.0] * 4) == [0.0]


@pytest.mark.parametrize(("key", "value"), [("window", 0), ("stride", 0), ("min_breast", 1.5), ("max_pectoral", -0.1)])
def test_wrong_settings(key, value):
    with pytest.raises(ValueError, match=r"MODEL\.SLIDING_WINDOW"):
        SlidingWindowRegions(**{key: value})
