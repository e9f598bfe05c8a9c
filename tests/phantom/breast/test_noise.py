from itertools import pairwise

import numpy as np
import pytest

from mammo_d2.phantom.breast.noise import line_network, power_law, smooth, streaks


@pytest.mark.parametrize("beta", [2.0, 3.0])
def test_power_spectrum_falls_with_beta(beta):
    field = power_law((512, 512), 0.3, beta, np.random.default_rng(0), outer_mm=1e6)
    assert field.dtype == np.float32
    assert field.std() == pytest.approx(1.0, abs=1e-3)
    power = np.abs(np.fft.fft2(field)) ** 2
    f = np.hypot(np.fft.fftfreq(512, 0.3)[:, None], np.fft.fftfreq(512, 0.3)[None, :])
    edges = np.geomspace(0.03, 1.0, 9)
    centres = np.sqrt(edges[1:] * edges[:-1])
    means = [power[(f >= a) & (f < b)].mean() for a, b in pairwise(edges)]
    slope = np.polyfit(np.log(centres), np.log(means), 1)[0]
    assert slope == pytest.approx(-beta, abs=0.2)


def test_smooth_noise_keeps_its_scale_at_any_pixel_size():
    def turning_length(spacing: float) -> float:
        field = smooth((int(200 / spacing), int(200 / spacing)), spacing, 20.0, np.random.default_rng(1))
        crossings = (np.diff(np.signbit(field), axis=1)).sum() / field.shape[0]
        return 200 / crossings

    assert turning_length(0.5) == pytest.approx(turning_length(1.0), rel=0.1)


def test_streaks_are_long_along_u():
    u, v = np.meshgrid(np.arange(300, dtype=np.float32), np.arange(300, dtype=np.float32))
    field = streaks(u, v, 40.0, 4.0, np.random.default_rng(2))
    along = np.abs(np.diff(field, axis=1)).mean()
    across = np.abs(np.diff(field, axis=0)).mean()
    assert across > 5 * along


def test_lines_are_thin_and_bounded():
    lines = line_network((400, 400), 0.5, 26.0, 1.0, np.random.default_rng(3))
    assert lines.min() >= 0
    assert lines.max() <= 1
    assert 0 < (lines > 0.2).mean() < 0.2
