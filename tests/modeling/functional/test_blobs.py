"""The breast, its bright spots and its centre, by hand."""

import numpy as np
import pytest

from mammo_d2.modeling.functional.blobs import bright_blobs, center_boxes, tissue_mask


def breast(height=80, width=60):
    """Tissue of grey 50 in the left 40 columns, and a label of 255 in a corner."""
    image = np.zeros((height, width))
    image[:, :40] = 50
    image[:6, 50:58] = 255
    return image


def disc(image, y, x, radius, value):
    rows, columns = np.ogrid[: image.shape[0], : image.shape[1]]
    image[(rows + 0.5 - y) ** 2 + (columns + 0.5 - x) ** 2 <= radius**2] = value
    return image


def test_tissue_is_the_largest_bright_part():
    mask = tissue_mask(breast())
    assert mask[:, :40].all()
    assert not mask[:, 40:].any()
    assert tissue_mask(np.zeros((3, 4))).all()


def test_spots_by_contrast():
    image = disc(disc(breast(), 20, 15, 6, 150), 60, 25, 6, 110)
    boxes, scores = bright_blobs(image, [3.0], 2)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres == pytest.approx(np.array([[15, 20], [25, 60]]), abs=1)
    assert (boxes[:, 2:] - boxes[:, :2]).tolist() == [[12, 12], [12, 12]]  # 4 sigma
    # The contrast is linear in the grey value above the tissue's.
    assert scores[0] / scores[1] == pytest.approx(100 / 60, rel=0.1)
    assert 0 < scores[1] < scores[0] < 100 / 255


def test_the_border_of_the_breast_and_the_label_are_no_spots():
    boxes, scores = bright_blobs(breast(), [2.0, 4.0], 5)
    assert len(boxes) == 0 or scores.max() < 1e-6


def test_one_box_per_place_of_the_right_size():
    image = disc(breast(), 40, 20, 8, 150)
    boxes, _ = bright_blobs(image, [2.0, 4.0], 5)
    assert (boxes[0, 2:] - boxes[0, :2]).tolist() == [16, 16]
    centres = (boxes[1:, :2] + boxes[1:, 2:]) / 2
    assert not ((centres > boxes[0, :2]) & (centres < boxes[0, 2:])).all(axis=1).any()


def test_boxes_around_the_centre():
    image = breast(81, 60)  # tissue: 81 by 40, centre (40.5, 20)
    boxes, scores = center_boxes(image, 0.2, steps=3)
    side = 0.2 * 81
    assert boxes[0] == pytest.approx([20 - side / 2, 40.5 - side / 2, 20 + side / 2, 40.5 + side / 2])
    assert scores[0] == 1
    # Neighbours are half a side away: exp(-1/16), the corners exp(-1/8).
    assert scores[1:5] == pytest.approx(np.exp(-1 / 16))
    assert scores[5:] == pytest.approx(np.exp(-1 / 8))
    assert len(scores) == 9
    assert (boxes >= 0).all()


def test_centres_outside_of_the_breast_are_left_out():
    # The grid has columns at -20, 20 and 60, and rows at 0, 40 and 80; the image is 80 by 60.
    boxes, _ = center_boxes(breast(), 1.0, steps=3)
    assert boxes.tolist() == [[0, 0, 60, 80], [0, 0, 60, 40]]
