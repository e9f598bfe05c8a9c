import numpy as np
import pytest

from mammo_d2.phantom import PhantomConfig
from mammo_d2.phantom.breast.anatomy import draw_patient
from mammo_d2.phantom.breast.outline import view_geometry
from mammo_d2.phantom.breast.tissue import finish, make_tissue

CONFIG = PhantomConfig(rows=320, cols=256, n_patients=40)


def view(index: int, name: str = "MLO"):
    patient = draw_patient(CONFIG, index, "healthy", False, False)
    geometry = view_geometry(CONFIG, patient.breasts["L"], name, np.random.default_rng(index))
    return patient, geometry, make_tissue(geometry, patient, patient.breasts["L"], np.random.default_rng(index))


@pytest.mark.parametrize("index", range(5))
def test_glandular_share_is_the_breasts(index):
    patient, geometry, tissue = view(index, "CC")
    share = (tissue.gland[geometry.mask] > 0.5).mean()
    assert share == pytest.approx(patient.breasts["L"].gland_share, abs=0.02)


def test_gland_leaves_the_subcutaneous_fat_free_and_is_brighter_than_fat():
    _, geometry, tissue = view(1, "CC")
    rim = geometry.mask & (geometry.skin_distance < 2.0)
    assert (tissue.gland[rim] > 0.5).mean() < 0.05
    gland, fat = tissue.gland > 0.8, geometry.mask & (tissue.gland < 0.1)
    assert tissue.brightness[gland].mean() > tissue.brightness[fat].mean() + 0.1


def test_muscle_is_brighter_than_fat():
    _, geometry, tissue = view(0)
    fat = geometry.mask & (tissue.gland < 0.1) & (geometry.pectoral_soft < 0.01)
    assert tissue.brightness[geometry.pectoral_soft > 0.99].mean() > tissue.brightness[fat].mean() + 0.1


@pytest.mark.parametrize("film", [False, True])
def test_finish_keeps_the_range_and_a_black_background(film):
    _, geometry, tissue = view(2)
    image = finish(geometry, tissue.brightness, film, np.random.default_rng(0))
    assert image.min() >= 0
    assert image.max() <= 1
    assert not image[~geometry.mask].any()
    edge = image[geometry.mask & (geometry.skin_distance > 2) & (geometry.skin_distance < 4)].mean()
    inner = image[geometry.mask & (geometry.skin_distance > 25) & (tissue.gland < 0.2)].mean()
    assert edge < inner  # the breast gets thinner towards the skin
