"""Boxes beside the breast: shares by hand, images without a breast, a real film."""

import numpy as np
import pytest

from mammo_d2.data.reading.reader import read_image
from mammo_d2.inference.boxes.breast_filter import MASK_SIDE, breast_share, in_breast, reduced_breast_mask


def test_share_of_boxes_in_a_mask_of_half_the_size():
    mask = np.zeros((4, 6), bool)
    mask[:, :3] = True  # columns 0 to 6 of an image of 8 x 12
    boxes = np.array([[0, 0, 6, 8], [0, 0, 12, 8], [4, 2, 8, 4], [6, 0, 12, 8], [5.9, 0, 6.1, 1], [11, 7, 12, 8]])
    np.testing.assert_allclose(breast_share(boxes, mask, (8, 12)), [1, 0.5, 0.5, 0, 0.5, 0])
    assert in_breast(boxes, mask, (8, 12)).tolist() == [True, True, True, False, True, False]


def test_boxes_without_area_and_beyond_the_border_cover_a_pixel_of_the_mask():
    mask = np.array([[True, False]])
    boxes = np.array([[0, 0, 0, 0], [2, 1, 2, 1], [-5, -5, -4, -4], [9, 9, 10, 10]])
    np.testing.assert_allclose(breast_share(boxes, mask, (1, 2)), [1, 0, 1, 0])


def test_everything_is_kept_without_a_mask():
    assert in_breast(np.zeros((2, 4)), None, (9, 9)).tolist() == [True, True]
    assert in_breast(np.zeros((0, 4)), np.zeros((2, 2), bool), (9, 9)).shape == (0,)


@pytest.mark.parametrize("image", [np.zeros((50, 40)), np.full((50, 40), 7), np.ones((1, 1))])
def test_an_image_without_contrast_has_no_mask(image):
    assert reduced_breast_mask(image) is None


def test_a_speck_is_no_breast():
    image = np.zeros((200, 100), np.uint16)
    image[90:98, 50:58] = 4000
    assert reduced_breast_mask(image) is None


def test_the_mask_of_a_large_image_is_reduced():
    rows, columns = np.mgrid[:1200, :800]
    image = np.where((columns / 600) ** 2 + ((rows - 600) / 500) ** 2 < 1, 2000, 0).astype(np.float32)
    image[:150, 600:] = 4000  # a label
    mask = reduced_breast_mask(image)
    assert mask.shape == (MASK_SIDE, 341)
    label, lesion = [650, 20, 750, 120], [200, 500, 300, 600]
    assert in_breast(np.array([label, lesion]), mask, (1200, 800)).tolist() == [False, True]


@pytest.mark.shared_data
def test_the_label_of_a_real_film_is_left_out(shared_data):
    pixels, _ = read_image(shared_data / "mini-mias" / "mdb001.png")
    mask = reduced_breast_mask(pixels)
    height, width = pixels.shape
    # The lesion of Info.txt (mdb001 CIRC B 535 425 197, from the lower left corner), and the four corners.
    lesion = [535 - 197, height - 425 - 197, 535 + 197, height - 425 + 197]
    corners = [[x, y, x + 60, y + 60] for x in (0, width - 60) for y in (0, height - 60)]
    kept = in_breast(np.array([lesion, *corners], float), mask, (height, width))
    assert kept[0]
    assert not kept[1:].all()
