import numpy as np
import pytest

from mammo_d2.phantom import PhantomConfig
from mammo_d2.phantom.breast.anatomy import draw_patient
from mammo_d2.phantom.breast.outline import fill_polygon, view_geometry


def geometry(view: str, index: int = 0, rows: int = 320, cols: int = 256):
    config = PhantomConfig(rows=rows, cols=cols, n_patients=50)
    breast = draw_patient(config, index, "healthy", False, False).breasts["L"]
    return config, breast, view_geometry(config, breast, view, np.random.default_rng(index))


def test_polygon_covers_the_pixels_that_it_touches():
    # 1 mm pixels; a square whose corners are the pixel centres 1.5 and 3.5.
    raster = fill_polygon((5, 5), np.array([[1.5, 1.5], [3.5, 1.5], [3.5, 3.5], [1.5, 3.5]]), 1.0)
    expected = np.zeros((5, 5), np.uint8)
    expected[1:4, 1:4] = 1
    np.testing.assert_array_equal(raster, expected)


@pytest.mark.parametrize("view", ["CC", "MLO"])
@pytest.mark.parametrize("index", range(6))
def test_breast_lies_on_the_chest_wall_and_inside_the_image(view, index):
    config, breast, geo = geometry(view, index)
    assert geo.mask[:, 0].any()
    assert geo.shape[1] <= config.cols
    assert not geo.mask[:, -1].any()
    assert geo.nipple[0] == pytest.approx(breast.depth, rel=0.1)
    assert (geo.skin_distance[geo.mask] > 0).all()
    assert not geo.skin_distance[~geo.mask].any()


def test_pectoral_muscle_only_in_mlo_and_in_its_upper_corner():
    assert geometry("CC")[2].pectoral is None
    geo = geometry("MLO")[2]
    assert geo.pectoral_soft[3, 3] > 0.95
    assert geo.pectoral_soft[-1].max() < 0.05
    # Closer to the chest wall the lower it gets: the covered width shrinks from row to row.
    width = (geo.pectoral_soft > 0.5).sum(1)
    assert (np.diff(width[:200:10].astype(int)) <= 0).all()


@pytest.mark.parametrize("view", ["CC", "MLO"])
def test_axes_are_orthonormal_and_point_inwards_and_up(view):
    geo = geometry(view)[2]
    axis, lateral = np.array(geo.axis), np.array(geo.lateral)
    assert np.linalg.norm(axis) == pytest.approx(1)
    assert axis @ lateral == pytest.approx(0, abs=1e-9)
    assert axis[0] < 0
    assert lateral[1] < 0


def test_same_breast_at_every_resolution():
    coarse, fine = geometry("MLO")[2], geometry("MLO", rows=640, cols=512)[2]
    assert coarse.nipple == pytest.approx(fine.nipple)
    area = [g.mask.sum() * g.spacing**2 for g in (coarse, fine)]
    assert area[0] == pytest.approx(area[1], rel=0.02)
