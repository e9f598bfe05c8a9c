import numpy as np
import pytest

from mammo_d2.data.breast.window_transform import WindowTransform

# Crop of 4×3 pixels at (2, 1), mirrored, one pixel from the left and two from the top of a 6×5 window.
TRANSFORM = WindowTransform((8, 10), (2, 1, 3, 4), True, (1, 2), (6, 5))


def test_pixels():
    image = np.arange(80, dtype=np.float32).reshape(8, 10)
    expected = np.full((6, 5), -1, np.float32)
    expected[2:6, 1:4] = image[1:5, 2:5][:, ::-1]
    assert np.array_equal(TRANSFORM.apply(image, fill=-1), expected)


def test_a_crop_larger_than_the_window_is_cut():
    image = np.arange(80, dtype=np.float32).reshape(8, 10)
    transform = WindowTransform((8, 10), (1, 0, 9, 8), False, (-2, -3), (4, 3))
    assert np.array_equal(transform.apply(image), image[3:7, 3:6])


def test_boxes_follow_the_pixels():
    # pixel (row 2, column 4) of the image is the crop's (1, 2), mirrored (1, 0), in the window (3, 1)
    assert TRANSFORM.boxes_to_prepared([4, 2, 5, 3]).tolist() == [[1, 3, 2, 4]]
    assert TRANSFORM.boxes_to_source([1, 3, 2, 4]).tolist() == [[4, 2, 5, 3]]


def test_boxes_there_and_back():
    boxes = np.random.default_rng(0).uniform(-5, 15, (20, 4))
    np.testing.assert_allclose(TRANSFORM.boxes_to_source(TRANSFORM.boxes_to_prepared(boxes)), boxes, atol=1e-12)
    assert TRANSFORM.boxes_to_source(np.zeros((0, 4))).shape == (0, 4)


def test_map_at_full_resolution_is_the_inverse_of_apply():
    image = np.arange(1, 81, dtype=np.float32).reshape(8, 10)
    back = TRANSFORM.map_to_source(TRANSFORM.apply(image)[None], spacing=1)
    expected = np.zeros((1, 8, 10), np.float32)
    expected[0, 1:5, 2:5] = image[1:5, 2:5]
    assert np.array_equal(back, expected)


def test_coarse_map():
    transform = WindowTransform((64, 32), (0, 0, 32, 64), False, (0, 64), (128, 64))
    saliency = np.arange(8.0).reshape(1, 4, 2)  # cells of 32×32 pixels; the image shows rows 2 and 3, column 0
    back = transform.map_to_source(saliency, spacing=16)
    assert back.tolist() == [[[4, 4], [4, 4], [6, 6], [6, 6]]]


def test_wrong_image_size():
    with pytest.raises(ValueError, match=r"\(8, 9\) does not fit source_size \(8, 10\)"):
        TRANSFORM.apply(np.zeros((8, 9)))
