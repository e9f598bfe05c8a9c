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


def breast(height=60, width=40, side="left") -> np.ndarray:
    """A half disc at the image's border, values above 0 only inside, with a small marker in the far corner."""
    rows, columns = np.mgrid[:height, :width]
    inside = (columns / 25) ** 2 + ((rows - 30) / 20) ** 2 < 1
    image = np.where(inside, 100 + rows + columns, 0).astype(np.float32)
    image[2:5, 33:37] = 500
    return image if side == "left" else image[:, ::-1]
