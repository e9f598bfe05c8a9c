import dataclasses

import pytest

from mammo_d2.phantom import PhantomConfig
from mammo_d2.phantom.breast.anatomy import draw_patient

CONFIG = PhantomConfig(n_patients=200)


def draw(index: int):
    return draw_patient(CONFIG, index, "healthy", False, False)


def test_breasts_of_a_patient_are_alike():
    for index in range(20):
        left, right = draw(index).breasts["L"], draw(index).breasts["R"]
        assert left != right
        for name in ("depth", "chord", "gland_share"):
            assert getattr(left, name) == pytest.approx(getattr(right, name), rel=0.2)


def test_gland_share_follows_the_density_category():
    means = {}
    for index in range(120):
        patient = draw(index)
        means.setdefault(patient.density, []).append(patient.breasts["L"].gland_share)
    assert sorted(means) == list("abcd")
    ordered = [sum(means[d]) / len(means[d]) for d in "abcd"]
    assert ordered == sorted(ordered)


def test_every_patient_is_her_own():
    drawn = [dataclasses.astuple(draw(index).breasts["L"]) for index in range(50)]
    assert len(set(drawn)) == 50
    assert draw(7).patient_id == "PH00008"
