"""Stored pixel values -> 0..255 floats (``INPUT.INTENSITY``)."""

from collections.abc import Sequence

import numpy as np

INTENSITY_MODES = ("bit_depth", "minmax", "percentile")

#: Upper end of the models' input values; MODEL.PIXEL_MEAN is on this scale. Its lower end is 0.
INPUT_FULL_SCALE = 255.0


def scale_intensity(
    pixels: np.ndarray, max_value: float, mode: str = "bit_depth", percentiles: Sequence[float] = (0.5, 99.5)
) -> np.ndarray:
    """Map pixel values linearly to 0..255, clipping what lies outside.

    * ``bit_depth``: 0..``max_value`` -> 0..255, the same for every image of a device.
    * ``minmax``: the image's own minimum..maximum.
    * ``percentile``: the two percentiles of the non-background pixels, those above the image's minimum (the breast
      preparation sets the background to one lowest value); interpolated linearly between ranks.

    Args:
        pixels: (H, W) stored values, any real dtype.
        max_value: full-scale value of the file: 255, 4095, 65535, ...
        mode: one of ``INTENSITY_MODES``.
        percentiles: lower and upper percentile, 0..100, for ``percentile``.

    Returns:
        (H, W) float32 in 0..255. An image of one value becomes 0 everywhere, except under ``bit_depth``.

    Raises:
        ValueError: unknown mode, empty or non-finite image, bad percentiles or full-scale value.
    """
    if pixels.size == 0:
        raise ValueError(f"the image is empty: shape {pixels.shape}")
    low, high = _value_range(pixels, max_value, mode, percentiles)
    if high <= low:
        return np.zeros(pixels.shape, dtype=np.float32)
    scale = INPUT_FULL_SCALE / (high - low)
    scaled = pixels.astype(np.float32)  # a copy: the caller's array stays as it is
    if low:
        scaled -= np.float32(low)
    scaled *= np.float32(scale)
    return np.clip(scaled, 0.0, INPUT_FULL_SCALE, out=scaled)


def _value_range(pixels: np.ndarray, max_value: float, mode: str, percentiles: Sequence[float]) -> tuple[float, float]:
    """The stored values that become 0 and 255."""
    minimum, maximum = float(pixels.min()), float(pixels.max())
    if not np.isfinite([minimum, maximum]).all():
        raise ValueError("the image has values that are not finite (NaN or infinity)")
    if mode == "bit_depth":
        if not max_value > 0:
            raise ValueError(f"the full-scale value must be above 0, not {max_value}")
        return 0.0, float(max_value)
    if mode == "minmax":
        return minimum, maximum
    if mode == "percentile":
        lower, upper = percentiles
        if not 0 <= lower < upper <= 100:
            raise ValueError(f"INPUT.INTENSITY_PERCENTILES must satisfy 0 <= lower < upper <= 100, not {percentiles}")
        foreground = pixels[pixels > minimum]
        if foreground.size == 0:
            return minimum, minimum
        low, high = np.percentile(foreground, [lower, upper])
        # A foreground of a single value still stands out from the background.
        return (float(low), float(high)) if high > low else (minimum, float(high))
    raise ValueError(f"INPUT.INTENSITY {mode!r} is unknown; choose one of {', '.join(INTENSITY_MODES)}")
