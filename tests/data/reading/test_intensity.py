"""Stored values to 0..255, by hand."""

import numpy as np
import pytest

from mammo_d2.data.reading.intensity import scale_intensity


def test_bit_depth_uses_the_full_scale_of_the_file():
    scaled = scale_intensity(np.array([[0, 819, 4095]], dtype=np.float32), 4095.0)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [[0.0, 51.0, 255.0]], rtol=1e-6)


def test_bit_depth_keeps_every_one_of_65536_values_apart():
    stored = np.arange(65536, dtype=np.float32).reshape(256, 256)
    scaled = scale_intensity(stored, 65535.0)
    assert np.unique(scaled).size == 65536
    np.testing.assert_array_equal(np.rint(scaled / 255.0 * 65535.0), stored)


def test_values_beyond_the_range_are_clipped():
    np.testing.assert_array_equal(scale_intensity(np.array([[-5.0, 300.0]]), 255.0), [[0.0, 255.0]])


def test_minmax_uses_the_image_itself():
    np.testing.assert_allclose(scale_intensity(np.array([[100.0, 150.0, 300.0]]), 4095.0, "minmax"), [[0, 63.75, 255]])


def test_percentile_ignores_the_background():
    # Foreground 1..5: its 25th and 75th percentiles are 2 and 4. The twenty background pixels would pull both to 0.
    image = np.concatenate([np.zeros(20), [1.0, 2.0, 3.0, 4.0, 5.0]]).reshape(5, 5)
    scaled = scale_intensity(image, 65535.0, "percentile", (25.0, 75.0))
    np.testing.assert_allclose(scaled[-1], [0.0, 0.0, 127.5, 255.0, 255.0])
    assert not scaled[:-1].any()


def test_percentile_interpolates_between_ranks():
    # Foreground 10, 15, 20: the percentiles are 12.5 and 17.5.
    scaled = scale_intensity(np.array([[0.0, 10.0, 15.0, 20.0]]), 65535.0, "percentile", (25, 75))
    np.testing.assert_allclose(scaled, [[0.0, 0.0, 127.5, 255.0]])


def test_foreground_of_one_value_stands_out_from_the_background():
    np.testing.assert_array_equal(scale_intensity(np.array([[3.0, 9.0]]), 255.0, "percentile"), [[0.0, 255.0]])


@pytest.mark.parametrize("mode", ["minmax", "percentile"])
def test_constant_image_is_black(mode):
    np.testing.assert_array_equal(scale_intensity(np.full((2, 3), 7.0), 255.0, mode), np.zeros((2, 3)))


def test_the_input_is_left_alone():
    image = np.array([[1.0, 2.0]], dtype=np.float32)
    scale_intensity(image, 2.0, "minmax")
    np.testing.assert_array_equal(image, [[1.0, 2.0]])


@pytest.mark.parametrize(
    ("image", "max_value", "mode", "percentiles", "message"),
    [
        (np.ones((2, 2)), 255.0, "window", (0.5, 99.5), "INPUT.INTENSITY 'window' is unknown; choose one of bit_depth"),
        (np.ones((0, 2)), 255.0, "bit_depth", (0.5, 99.5), "empty"),
        (np.array([[np.nan, 1.0]]), 255.0, "minmax", (0.5, 99.5), "not finite"),
        (np.array([[np.inf, 1.0]]), 255.0, "bit_depth", (0.5, 99.5), "not finite"),
        (np.array([[0.0, 1.0]]), 0.0, "bit_depth", (0.5, 99.5), "full-scale value must be above 0"),
        (np.array([[0.0, 1.0]]), 255.0, "percentile", (99.0, 1.0), "INPUT.INTENSITY_PERCENTILES"),
    ],
)
def test_bad_input_is_named(image, max_value, mode, percentiles, message):
    with pytest.raises(ValueError, match=message):
        scale_intensity(image, max_value, mode, percentiles)
