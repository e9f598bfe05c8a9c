"""Random textures: power-law noise, smooth noise, stretched streaks and line networks. numpy, SciPy and OpenCV."""

from __future__ import annotations

import cv2
import numpy as np
from scipy import fft


def power_law(shape: tuple[int, int], spacing: float, beta: float, rng: np.random.Generator,
              outer_mm: float = 90.0) -> np.ndarray:  # fmt: skip
    """Gaussian noise whose two-dimensional power spectrum falls as 1/f^beta.

    Burgess (Medical Physics 28, 2001) measured beta close to 3 in mammograms.

    Args:
        shape: (rows, cols) in pixels.
        spacing: pixel side, mm.
        beta: spectral exponent.
        rng: random stream.
        outer_mm: scale above which the spectrum is flat.

    Returns:
        float32 of ``shape``, zero mean, unit standard deviation.
    """
    rows, cols = fft.next_fast_len(shape[0]), fft.next_fast_len(shape[1], real=True)
    fy = np.fft.fftfreq(rows, spacing).astype(np.float32)[:, None]
    fx = np.fft.rfftfreq(cols, spacing).astype(np.float32)[None, :]
    amplitude = (fy * fy + fx * fx + np.float32(1.0 / outer_mm**2)) ** np.float32(-beta / 4)
    amplitude[0, 0] = 0.0
    white = rng.standard_normal((*amplitude.shape, 2), np.float32).view(np.complex64)[..., 0]
    field = fft.irfft2(white * amplitude, s=(rows, cols))[: shape[0], : shape[1]]
    return np.ascontiguousarray((field - field.mean()) / field.std(), np.float32)


def smooth(shape: tuple[int, int], spacing: float, grain_mm: float, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise with features of about ``grain_mm``; float32, about zero mean and unit standard deviation.

    Drawn on a coarse grid and enlarged, so its cost hardly depends on the image size.
    """
    step = max(grain_mm / 2.5, spacing)
    rows, cols = (max(2, round(n * spacing / step)) for n in shape)
    coarse = cv2.GaussianBlur(rng.standard_normal((rows, cols), np.float32), (0, 0), 1.0)
    coarse = coarse / coarse.std()
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)


def streaks(u: np.ndarray, v: np.ndarray, grain_u: float, grain_v: float, rng: np.random.Generator) -> np.ndarray:
    """Noise stretched along curved coordinates.

    Args:
        u, v: float32 coordinate of every pixel along and across the streaks, any unit.
        grain_u, grain_v: length and width of a streak in those units.
        rng: random stream.

    Returns:
        float32 like ``u``, about zero mean and unit standard deviation.
    """
    u0, v0 = float(u.min()), float(v.min())
    cols = int((float(u.max()) - u0) / (grain_u / 2)) + 8
    rows = int((float(v.max()) - v0) / (grain_v / 2)) + 8
    field = cv2.GaussianBlur(rng.standard_normal((rows, cols), np.float32), (0, 0), 0.8)
    field = field / field.std()
    map_u = (u - np.float32(u0)) * np.float32(2 / grain_u) + np.float32(3)
    map_v = (v - np.float32(v0)) * np.float32(2 / grain_v) + np.float32(3)
    return cv2.remap(field, map_u, map_v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def line_network(shape: tuple[int, int], spacing: float, mesh_mm: float, width_mm: float,
                 rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Curved lines of even width around cells of about ``mesh_mm``: the zero crossings of smooth noise.

    Lines fade in and out along their way, as ligaments do. Returns float32 0..1 of ``shape``.
    """
    field = smooth(shape, spacing, mesh_mm, rng)
    field += 0.10 * smooth(shape, spacing, mesh_mm / 3, rng)
    gx = cv2.Sobel(field, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * spacing))
    gy = cv2.Sobel(field, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * spacing))
    slope = np.sqrt(gx * gx + gy * gy)
    slope += np.float32(0.25 / mesh_mm)
    half = max(width_mm / 2, 0.45 * spacing)
    # Partial-volume: a line thinner than a pixel is as much weaker.
    strength = np.float32(min(1.0, width_mm / (2 * half)))
    field /= slope
    field *= np.float32(1 / half)
    np.multiply(field, field, out=field)
    np.negative(field, out=field)
    lines = np.exp(field)
    fade = smooth(shape, spacing, mesh_mm * 1.3, rng)
    lines *= np.clip(0.35 + 0.6 * fade, 0, 1) * strength
    return lines
