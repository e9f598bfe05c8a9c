import numpy as np
import pytest

from mammo_d2.data.loading.resize import fitted_size, resize_image


@pytest.mark.parametrize(
    ("image_size", "size", "expected"),
    [
        ((100, 50), (50, 50), (50, 25)),
        ((50, 100), (50, 50), (25, 50)),
        ((100, 50), (200, 300), (200, 100)),
        ((83, 64), (512, 512), (512, 395)),  # 64 * 512 / 83 = 394.8
        ((1000, 1), (100, 100), (100, 1)),
    ],
)
def test_fitted_size(image_size, size, expected):
    assert fitted_size(image_size, size) == expected


def test_resize_averages_when_shrinking():
    image = np.array([[0, 0, 4, 8], [0, 100, 0, 0]], dtype=np.float32)
    np.testing.assert_allclose(resize_image(image, (1, 2)), [[25, 3]])
    # One side shrinks and the other grows: the averages first, then bilinear between them.
    np.testing.assert_allclose(resize_image(image, (4, 2))[[0, 3]], [[0, 6], [50, 0]])
    assert resize_image(image, (2, 4)) is image


def test_resize_keeps_positions():
    # A bright square keeps its place relative to the image within a pixel, whatever the sizes.
    image = np.zeros((120, 90), dtype=np.float32)
    image[30:60, 45:63] = 255.0
    for size in [(60, 45), (240, 180), (60, 180), (77, 50)]:
        rows, columns = np.nonzero(resize_image(image, size) > 127)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        expected = np.array([45, 30, 63, 60]) * np.tile([size[1] / 90, size[0] / 120], 2)
        np.testing.assert_allclose(box, expected, atol=1.0)


def test_small_images_may_keep_their_size():
    assert fitted_size((100, 50), (200, 300), enlarge=False) == (100, 50)
    assert fitted_size((400, 100), (200, 300), enlarge=False) == (200, 50)
