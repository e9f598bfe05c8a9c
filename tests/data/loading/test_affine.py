"""Affine maps of boxes, pixels and coarse maps, by hand."""

import numpy as np
import pytest

from mammo_d2.data.loading.affine import affine_matrix, transform_boxes, visible_boxes, warp_cells, warp_image

HEIGHT, WIDTH = 60, 100
BOX = np.array([[10.0, 20.0, 30.0, 50.0]])  # centre (20, 35), half sides (10, 15)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, [10, 20, 30, 50]),
        ({"flip_horizontal": True}, [70, 20, 90, 50]),
        ({"flip_vertical": True}, [10, 10, 30, 40]),
        ({"flip_horizontal": True, "flip_vertical": True}, [70, 10, 90, 40]),
        # To the right by 0.1 of the width, down by 0.05 of the height.
        ({"shift": (0.1, 0.05)}, [20, 23, 40, 53]),
        # Twice as large about (50, 30).
        ({"scale": 2.0}, [-30, 10, 10, 70]),
        # A quarter turn counter-clockwise: (dx, dy) -> (dy, -dx), so the centre (-30, 5) goes to (5, 30).
        ({"rotation": 90.0}, [40, 50, 70, 70]),
        ({"rotation": -90.0}, [30, -10, 60, 10]),
        ({"rotation": 180.0}, [70, 10, 90, 40]),
        # Flip first: the centre (30, 5) is then turned to (5, -30), and moved by 10 last.
        ({"flip_horizontal": True, "rotation": 90.0, "shift": (0.1, 0.0)}, [50, -10, 80, 10]),
    ],
)
def test_boxes_by_hand(arguments, expected):
    matrix = affine_matrix(HEIGHT, WIDTH, **arguments)
    np.testing.assert_allclose(transform_boxes(BOX, matrix), [expected], atol=1e-9)


def test_rotated_box_bounds_the_inscribed_ellipse():
    # A circle of radius 10 about the centre stays what it is at any angle; its box's corners would reach 14.14.
    circle = np.array([[40.0, 20.0, 60.0, 40.0]])
    np.testing.assert_allclose(transform_boxes(circle, affine_matrix(HEIGHT, WIDTH, rotation=45.0)), circle)
    # An ellipse with half axes 20, 10 at 45 degrees reaches sqrt((400 + 100) / 2) = 15.8114 both ways.
    ellipse = np.array([[30.0, 20.0, 70.0, 40.0]])
    turned = transform_boxes(ellipse, affine_matrix(HEIGHT, WIDTH, rotation=45.0))
    np.testing.assert_allclose(turned, [[34.1886, 14.1886, 65.8114, 45.8114]], atol=1e-4)


def test_no_boxes():
    assert transform_boxes(np.zeros((0, 4)), affine_matrix(HEIGHT, WIDTH, rotation=30.0)).shape == (0, 4)
    boxes, kept = visible_boxes(np.zeros((0, 4)), HEIGHT, WIDTH, 0.3)
    assert boxes.shape == (0, 4)
    assert kept.shape == (0,)


def test_flips_and_whole_pixel_shifts_move_pixels_exactly():
    image = np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32)
    flipped = warp_image(image, affine_matrix(HEIGHT, WIDTH, flip_horizontal=True, flip_vertical=True))
    np.testing.assert_array_equal(flipped, image[::-1, ::-1])
    shifted = warp_image(image, affine_matrix(HEIGHT, WIDTH, shift=(0.1, -0.05)))  # 10 right, 3 up
    np.testing.assert_array_equal(shifted[:-3, 10:], image[3:, :-10])
    assert not shifted[-3:].any()
    assert not shifted[:, :10].any()


def test_identity_returns_a_copy():
    image = np.ones((4, 4), dtype=np.float32)
    copy = warp_image(image, affine_matrix(4, 4))
    copy[0, 0] = 9.0
    assert image[0, 0] == 1.0


def test_visible_boxes_clips_and_drops():
    boxes = np.array(
        [
            [-10.0, 0.0, 30.0, 10.0],  # 0.75 inside
            [90.0, 10.0, 130.0, 20.0],  # 0.25 inside
            [200.0, 10.0, 210.0, 20.0],  # outside
            [20.0, 20.0, 20.0, 30.0],  # no area
        ]
    )
    clipped, kept = visible_boxes(boxes, HEIGHT, WIDTH, 0.3)
    np.testing.assert_array_equal(kept, [0])
    np.testing.assert_allclose(clipped, [[0, 0, 30, 10]])
    clipped, kept = visible_boxes(boxes, HEIGHT, WIDTH, 0.0)
    np.testing.assert_array_equal(kept, [0, 1])
    np.testing.assert_allclose(clipped[1], [90, 10, 100, 20])


def test_a_cutout_that_covers_the_lesion_drops_its_box():
    boxes = np.array([[0.0, 0.0, 10.0, 10.0], [20.0, 0.0, 30.0, 10.0]])
    # Covers 80 of the first box's 100 pixels, 50 of the second's: 0.2 and 0.5 are visible.
    hole = (2, 0, 25, 10)
    clipped, kept = visible_boxes(boxes, HEIGHT, WIDTH, 0.3, hole)
    np.testing.assert_array_equal(kept, [1])
    np.testing.assert_allclose(clipped, [[20, 0, 30, 10]])  # not made smaller


def test_coarse_maps_move_with_the_image():
    image = np.random.default_rng(0).uniform(0, 1, (256, 128)).astype(np.float32)

    def in_cells(image):
        return image.reshape(16, 16, 8, 16).mean(axis=(1, 3))[np.newaxis]

    matrix = affine_matrix(*image.shape, flip_horizontal=True, shift=(0.0, 0.125))
    moved = warp_cells(in_cells(image), 16, matrix)
    # 0.125 of 256 pixels are 2 cells down; what was left is right.
    np.testing.assert_allclose(moved[:, 2:], in_cells(image)[:, :-2, ::-1], atol=1e-5)
    assert not moved[:, :2].any()
