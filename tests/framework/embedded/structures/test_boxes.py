"""Boxes, box formats and overlaps."""

import numpy as np
import pytest
import torch

from mammo_d2.framework.embedded.structures.boxes import Boxes, BoxMode, pairwise_iou


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_convert_there_and_back_in_the_type_given(kind) -> None:
    corner_and_size, corners = [1.0, 2, 3, 5], [1.0, 2, 4, 7]
    box = kind([corner_and_size]) if kind in (np.array, torch.tensor) else kind(corner_and_size)
    converted = BoxMode.convert(box, BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
    assert type(converted) is type(box)
    assert np.ravel(converted).tolist() == corners
    assert np.ravel(BoxMode.convert(converted, BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)).tolist() == corner_and_size
    assert np.ravel(box).tolist() == corner_and_size


def test_convert_refuses_what_it_cannot() -> None:
    box = [0, 0, 1, 1]
    assert BoxMode.convert(box, BoxMode.XYWH_REL, BoxMode.XYWH_REL) is box
    with pytest.raises(NotImplementedError, match="XYWH_REL"):
        BoxMode.convert(box, BoxMode.XYWH_REL, BoxMode.XYXY_ABS)
    with pytest.raises(ValueError, match="4 numbers"):
        BoxMode.convert([1, 2, 3], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)


def test_box_mode_values_are_those_of_data_set_files() -> None:
    assert [BoxMode(i).name for i in range(4)] == ["XYXY_ABS", "XYWH_ABS", "XYXY_REL", "XYWH_REL"]


def test_boxes_are_float32_and_n_by_4() -> None:
    assert Boxes(np.array([[1, 2, 3, 4]], dtype=np.int16)).tensor.dtype == torch.float32
    assert Boxes(torch.zeros(0)).tensor.shape == (0, 4)
    assert Boxes([]).tensor.shape == (0, 4)
    with pytest.raises(ValueError, match=r"\(N, 4\)"):
        Boxes([1.0, 2, 3, 4])


def test_measures() -> None:
    boxes = Boxes([[0.0, 0, 4, 5], [2, 2, 2, 9], [-1, -3, 11, 3]])
    assert boxes.area().tolist() == [20, 0, 72]
    assert boxes.nonempty().tolist() == [True, False, True]
    assert boxes.nonempty(4).tolist() == [False, False, True]
    assert boxes.inside_box((10, 10)).tolist() == [True, True, False]
    assert boxes.inside_box((10, 10), 3).tolist() == [True, True, True]
    # The right edge must be strictly inside.
    assert Boxes([[0.0, 0, 10, 5]]).inside_box((10, 10)).tolist() == [False]


def test_selecting() -> None:
    boxes = Boxes(torch.arange(12.0).view(3, 4))
    assert boxes[1].tensor.tolist() == [[4, 5, 6, 7]]
    assert boxes[torch.tensor([True, False, True])].tensor[:, 0].tolist() == [0, 8]
    assert boxes[torch.tensor([2, 0])].tensor[:, 0].tolist() == [8, 0]
    assert len(boxes[1:]) == 2
    assert [box.tolist()[0] for box in boxes] == [0, 4, 8]
    with pytest.raises(ValueError, match="list of boxes"):
        boxes[:, 0]


def test_cat_and_clone_do_not_share_memory() -> None:
    boxes = Boxes([[0.0, 0, 1, 1]])
    joined, copied = Boxes.cat([boxes]), boxes.clone()
    boxes.scale(2, 3)
    assert boxes.tensor.tolist() == [[0, 0, 2, 3]]
    assert joined.tensor.tolist() == copied.tensor.tolist() == [[0, 0, 1, 1]]
    assert len(Boxes.cat([])) == 0


def test_clip_refuses_infinite_boxes() -> None:
    with pytest.raises(ValueError, match="infinite"):
        Boxes([[0.0, 0, float("inf"), 1]]).clip((5, 5))


def test_pairwise_iou() -> None:
    a = Boxes([[0.0, 0, 10, 10], [5, 5, 5, 5]])
    b = Boxes([[0.0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30], [5, 5, 5, 5]])
    # The second overlaps by 50 of 150. An empty box overlaps nothing, not even itself (0 / 0).
    expected = torch.tensor([[1, 1 / 3, 0, 0], [0, 0, 0, 0]])
    assert torch.allclose(pairwise_iou(a, b), expected)
    assert pairwise_iou(a, Boxes([])).shape == (2, 0)
