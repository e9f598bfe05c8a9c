import numpy as np
import pytest

from mammo_d2.phantom.findings.calcifications import draw_cluster, render_cluster


def test_fine_and_many_against_coarse_and_few():
    for seed in range(10):
        fine = draw_cluster(True, 1.0, np.random.default_rng(seed))
        coarse = draw_cluster(False, 1.0, np.random.default_rng(seed))
        assert fine.count > coarse.count
        assert fine.contrast > coarse.contrast


@pytest.mark.parametrize("malignant", [True, False])
def test_every_calcification_lies_in_the_body(malignant):
    for seed in range(5):
        cluster = draw_cluster(malignant, 1.0, np.random.default_rng(seed))
        rendered = render_cluster(cluster, (40.0, 70.0), 0.2, 0)
        bright = rendered.pattern > 0.5 * rendered.pattern.max()
        assert bright.any()
        assert rendered.body[bright].all()


def test_partial_volume_keeps_the_total():
    cluster = draw_cluster(True, 1.0, np.random.default_rng(1))
    total = [render_cluster(cluster, (40.0, 70.0), s, 0).pattern.sum() * s * s for s in (0.1, 0.2, 0.4)]
    assert total[1] == pytest.approx(total[0], rel=0.15)
    assert total[2] == pytest.approx(total[0], rel=0.25)


def test_contrast_scale_is_linear():
    one, two = (draw_cluster(False, s, np.random.default_rng(2)) for s in (1.0, 2.0))
    assert two.contrast == pytest.approx(2 * one.contrast)
