import numpy as np
import pytest

from mammo_d2.data.breast.tissue_map import tissue_map


def half_disc(height: int = 256, width: int = 128) -> np.ndarray:
    """A bright half disc at the left border on a black background."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    return np.where(np.hypot(columns, rows - height / 2) < 90, 150.0, 0.0).astype(np.float32)


def test_breast_shares_add_up_to_its_area():
    tissue = tissue_map(half_disc(), 16)
    assert tissue.shape == (2, 16, 8)
    assert tissue[0].sum() * 16**2 == pytest.approx(np.pi * 90**2 / 2, rel=0.03)
    assert tissue[0, 8, 0] == 1.0
    assert tissue[0, 0, 7] == 0.0


def test_cells_beyond_the_image_are_empty():
    tissue = tissue_map(np.full((40, 20), 7.0, np.float32), 16)
    # 40×20 pixels are 2.5 × 1.25 cells; an image without contrast is all breast
    assert tissue[0].tolist() == [[1.0, 0.25], [1.0, 0.25], [0.5, 0.125]]


def test_no_muscle_in_views_from_above(monkeypatch):
    def explode(*_):
        raise AssertionError("looked for the muscle")

    monkeypatch.setattr("mammo_d2.data.breast.tissue_map.pectoral_edge", explode)
    assert tissue_map(half_disc(), 16, "CC")[1].sum() == 0.0
    with pytest.raises(AssertionError):
        tissue_map(half_disc(), 16, "MLO")


def test_muscle_of_an_oblique_view_is_the_bright_triangle():
    image = half_disc(320, 200)
    rows, columns = np.mgrid[:320, :200] + 0.5
    image[np.hypot(columns, rows - 160) < 155] = 120.0
    triangle = (columns / 90 + (rows - 5) / 200 < 1) & (image > 0)
    image[triangle] = 220.0
    muscle = tissue_map(image, 16, "MLO")[1]
    assert muscle.sum() * 16**2 == pytest.approx(triangle.sum(), rel=0.35)
    assert muscle[14:].sum() == 0.0


def test_a_cell_has_at_least_one_pixel():
    with pytest.raises(ValueError, match="TISSUE_CELL"):
        tissue_map(half_disc(), 0)
