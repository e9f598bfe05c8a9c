import numpy as np
import pytest

from mammo_d2.data.breast.mask import breast_mask
from mammo_d2.data.breast.pectoral import PectoralEdge, pectoral_edge
from mammo_d2.data.reading.reader import read_image
from tests.data.breast_images import half_ellipse, overlap


def oblique(side="left"):
    """(image, muscle): a breast from the top of the image on, with a bright triangle of 110 x 220 pixels."""
    y, x = np.mgrid[:400, :300] + 0.5
    breast = (x / 200) ** 2 + ((y - 150) / 230) ** 2 < 1
    muscle = x / 110 + y / 220 < 1
    image = np.where(breast, 800 + 100 * np.cos(x / 20) * np.cos(y / 27), 0)
    image = np.where(muscle & breast, 1500, image).astype(np.float32)
    return (image, muscle) if side == "left" else (image[:, ::-1].copy(), muscle[:, ::-1].copy())


@pytest.mark.parametrize("side", ["left", "right"])
def test_drawn_muscle_is_found(side):
    image, muscle = oblique(side)
    edge = pectoral_edge(image)
    assert edge is not None
    assert overlap(edge.mask(image.shape), muscle) > 0.9
    assert edge.corner == ((0, 0) if side == "left" else (300, 0))


def test_result_is_in_image_pixels():
    image, _ = oblique()
    edge, double = pectoral_edge(image), pectoral_edge(np.kron(image, np.ones((2, 2), np.float32)))
    assert edge is not None
    assert double is not None
    np.testing.assert_allclose(np.array(double.polygon()), 2 * np.array(edge.polygon()), atol=8)


def test_no_muscle_no_edge():
    image, breast = half_ellipse()
    rng = np.random.default_rng(0)
    assert pectoral_edge(np.where(breast, 1000 + rng.normal(0, 50, image.shape), 0).astype(np.float32)) is None
    assert pectoral_edge(np.zeros((50, 50), np.float32)) is None


def test_mask_of_a_triangle_by_hand():
    edge = PectoralEdge(top=(4.0, 0.0), bottom=(0.0, 4.0), corner=(0.0, 0.0), score=1.0)
    assert edge.polygon() == [0.0, 0.0, 4.0, 0.0, 0.0, 4.0]
    # Pixels whose centres lie in the triangle x + y <= 4.
    y, x = np.mgrid[:6, :6] + 0.5
    np.testing.assert_array_equal(edge.mask((6, 6)), x + y <= 4)


@pytest.mark.shared_data
@pytest.mark.parametrize(
    # (x at the top, y at the chest wall), read off the images by eye, in pixels of 1024.
    ("name", "top_x", "bottom_y"),
    [("mdb001", 580, 430), ("mdb028", 475, 480), ("mdb087", 565, 300), ("mdb264", 605, 840)],
)
def test_real_films(shared_data, name, top_x, bottom_y):
    image, _ = read_image(shared_data / "mini-mias" / f"{name}.png")
    edge = pectoral_edge(image, breast_mask(image))
    assert edge is not None
    assert abs(edge.top[0] - top_x) < 60
    assert abs(edge.bottom[1] - bottom_y) < 90
