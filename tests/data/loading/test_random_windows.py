"""Random versions of an image at test."""

import numpy as np
import pytest

from mammo_d2.data.loading.random_windows import RandomWindows, add_noise, draw_offset


def test_draws_follow_from_the_images_id():
    windows = RandomWindows(3, shift=5)
    draws = {image_id: [draw_offset(5, rng) for rng in windows.generators(image_id)] for image_id in range(40)}
    assert draws == {image_id: [draw_offset(5, rng) for rng in windows.generators(image_id)] for image_id in range(40)}
    assert len({tuple(offsets) for offsets in draws.values()}) == 40
    values = [value for offsets in draws.values() for offset in offsets for value in offset]
    assert (min(values), max(values)) == (-5, 5)
    assert RandomWindows().generators(1) == []


def test_noise_is_a_fraction_of_the_images_own_deviation():
    image = np.full((200, 200), 100, np.float32)
    image[:100] = 140
    noise = add_noise(image, 0.1, np.random.default_rng(0)) - image
    assert noise.std() == pytest.approx(2.0, rel=0.02)  # that of the image is 20
    assert noise.mean() == pytest.approx(0.0, abs=0.05)
    assert noise.dtype == np.float32
    assert np.array_equal(add_noise(image, 0.0, np.random.default_rng(0)), image)


@pytest.mark.parametrize("values", [(1, 5, 0.0), (4, 0, 0.0), (0, 0, 0.0), (4, -1, 0.1)])
def test_contradictions(values):
    with pytest.raises(ValueError, match="random windows need a COUNT above 1 and a positive SHIFT or NOISE"):
        RandomWindows(*values)
