import numpy as np
import pytest

from mammo_d2.core.boxes import (
    XYWH_ABS,
    XYXY_ABS,
    boxes_of_annotations,
    clip_boxes,
    clip_xywh,
    overhang_xywh,
    xywh_to_xyxy,
    xyxy_to_xywh,
)
from mammo_d2.framework import BoxMode


def test_box_forms():
    np.testing.assert_array_equal(xywh_to_xyxy([[1, 2, 3, 4]]), [[1, 2, 4, 6]])
    np.testing.assert_array_equal(xyxy_to_xywh([1, 2, 4, 6]), [1, 2, 3, 4])
    np.testing.assert_array_equal(clip_boxes([[-5, -1, 30, 8]], (10, 20)), [[0, 0, 20, 8]])


def test_conversion_in_float64_rounds_like_float32():
    boxes = np.random.default_rng(0).uniform(0, 4000, (1000, 4)).astype(np.float32)
    expected = boxes.copy()
    expected[:, 2:] += expected[:, :2]
    np.testing.assert_array_equal(xywh_to_xyxy(boxes).astype(np.float32), expected)


def test_modes_are_those_of_the_framework():
    assert (XYXY_ABS, XYWH_ABS) == (BoxMode.XYXY_ABS, BoxMode.XYWH_ABS)


def test_boxes_of_annotations():
    annotations = [
        {"bbox": [1, 2, 3, 4]},
        {"bbox": [1, 2, 3, 4], "bbox_mode": BoxMode.XYXY_ABS},
        {"bbox": [0.5, 0, 1, 1], "bbox_mode": BoxMode.XYWH_ABS},
    ]
    np.testing.assert_array_equal(boxes_of_annotations(annotations), [[1, 2, 4, 6], [1, 2, 3, 4], [0.5, 0, 1.5, 1]])
    assert boxes_of_annotations([]).shape == (0, 4)
    with pytest.raises(ValueError, match="bbox_mode 4: only"):
        boxes_of_annotations([{"bbox": [1, 2, 3, 4], "bbox_mode": 4}])


def test_clip_xywh():
    assert clip_xywh((-5, 90, 20, 20), (100, 80)) == [0, 90, 15, 10]
    assert clip_xywh([70, 90, 20, 5], (100, 80)) == [70, 90, 10, 5]
    inside = [0.1, 0.7, 79.9, 0.3]
    assert clip_xywh(inside, (100, 80)) is inside
    assert clip_xywh([90, 10, 5, 5], (100, 80))[2] == -10


def test_overhang_xywh():
    assert overhang_xywh([-5, 90, 20, 20], (100, 80)) == 10
    assert overhang_xywh([0, 0, 80, 100], (100, 80)) == 0
    assert overhang_xywh([70, 0, 13, 1], (100, 80)) == 3
