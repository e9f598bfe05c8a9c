"""Drawn breasts for tests of the breast finder: half an ellipse at the left border."""

import numpy as np


def half_ellipse(height=400, width=300, *, level=1000.0, background=0.0, side="left"):
    """(image, mask): rows 40..359, columns 0..179, brighter inside; mirrored for side "right"."""
    y, x = np.mgrid[:height, :width] + 0.5
    mask = (x / 180) ** 2 + ((y - 200) / 160) ** 2 < 1
    image = np.where(mask, level + 300 * np.cos(x / 25) * np.cos(y / 31), background).astype(np.float32)
    return (image, mask) if side == "left" else (image[:, ::-1].copy(), mask[:, ::-1].copy())


def overlap(a, b):
    """Intersection over union of two masks."""
    return (a & b).sum() / (a | b).sum()
