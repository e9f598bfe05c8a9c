import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mammo_d2.core.masks import box_of_segmentation, decode_mask, encode_mask

# 3 x 4 (H x W); pixels (1, 1), (2, 1) and (1, 2). Runs go down the columns: 4 off, 2 on, 1 off, 1 on, 4 off.
MASK = np.array([[0, 0, 0, 0], [0, 1, 1, 0], [0, 1, 0, 0]], bool)
RUNS = {"size": [3, 4], "counts": [4, 2, 1, 1, 4]}


def test_every_form_of_runs():
    text = encode_mask(MASK)
    assert json.loads(json.dumps(text)) == text
    for segmentation in (RUNS, text, coco_mask.encode(np.asfortranarray(MASK, np.uint8))):
        mask = decode_mask(segmentation, (3, 4))
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, MASK)
        assert box_of_segmentation(segmentation, (3, 4)) == [1, 1, 2, 2]


def test_polygons_are_joined():
    mask = decode_mask([[0, 0, 2, 0, 2, 1, 0, 1], [3, 1, 4, 1, 4, 3, 3, 3]], (3, 4))
    np.testing.assert_array_equal(mask, [[1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]])
    assert box_of_segmentation([[0, 0, 2, 0, 2, 1, 0, 1]], (3, 4)) == [0, 0, 2, 1]


def test_empty_mask_has_an_empty_box():
    assert box_of_segmentation({"size": [3, 4], "counts": [12]}, (3, 4)) == [0, 0, 0, 0]


def test_runs_of_another_image_are_an_error():
    with pytest.raises(ValueError, match=r"of an image of \[3, 4\] \(height, width\), its image has \[4, 3\]"):
        decode_mask(RUNS, (4, 3))
