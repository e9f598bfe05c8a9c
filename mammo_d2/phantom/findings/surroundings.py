"""The disturbed neighbourhood of a mass whose malignancy shows in its surroundings (setting ``context_malignancy``).

Well away from the mass (beyond two of its radii, out to five or at least 35 mm) long strands run towards it and the
tissue is denser and pulled inwards. Nothing is changed inside, nor as close to another finding of the breast: a close
crop of a mass shows no difference, whatever its pathology and its neighbour's.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from mammo_d2.phantom.findings.lesions import patch_grid


def disturb(brightness: np.ndarray, spacing: float, centre: tuple[float, float], radius: float, strength: float,
            seed: int, view: int, spared: Sequence[tuple[tuple[float, float], float]] = ()) -> None:  # fmt: skip
    """Change ``brightness`` (rows, cols; float32, in place) in a ring around a mass.

    Args:
        brightness: tissue without lesions.
        spacing: pixel side, mm.
        centre: (x, y) of the mass, mm.
        radius: radius of the mass, mm.
        strength: brightness of the strands, fraction of full scale.
        seed, view: seed of the details and number of the view.
        spared: ((x, y), radius) of the breast's other findings, mm.
    """
    rng = np.random.default_rng([seed, view, 77])
    inner, outer = 2.0 * radius, max(5.0 * radius, 35.0)
    x, y, origin = patch_grid(centre, outer, spacing)
    rows, cols = brightness.shape
    r0, c0 = max(0, origin[0]), max(0, origin[1])
    r1, c1 = min(rows, origin[0] + len(y)), min(cols, origin[1] + x.shape[1])
    x, y = x[:, c0 - origin[1] : c1 - origin[1]], y[r0 - origin[0] : r1 - origin[0]]
    x, y = np.repeat(x, len(y), 0), np.repeat(y, x.shape[1], 1)
    distance, theta = cv2.cartToPolar(x, y)
    ring = np.clip((distance - np.float32(inner)) / np.float32(0.25 * outer), 0, 1)
    ring *= np.clip((np.float32(outer) - distance) / np.float32(0.35 * outer), 0, 1)
    for other, size in spared:
        away = np.hypot(x - np.float32(other[0] - centre[0]), y - np.float32(other[1] - centre[1]))
        ring *= np.clip((away - np.float32(2.0 * size)) / np.float32(0.25 * outer), 0, 1)

    # Retraction: every point shows the tissue that was further out.
    pull = np.float32(1) + np.float32(0.12) * ring
    map_x = (x * pull + np.float32(centre[0])) / np.float32(spacing) - np.float32(0.5)
    map_y = (y * pull + np.float32(centre[1])) / np.float32(spacing) - np.float32(0.5)
    moved = cv2.remap(brightness, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    strands = np.zeros_like(distance)
    count = int(rng.integers(18, 28))
    for start in (np.arange(count) + rng.uniform(-0.35, 0.35, count)) * 2 * np.pi / count:
        bend = rng.normal(0, 0.006)
        turn = theta - np.float32(start) - np.float32(bend) * (distance - np.float32(inner))
        turn -= np.float32(2 * np.pi) * np.round(turn * np.float32(1 / (2 * np.pi)))
        half = max(rng.uniform(0.9, 1.6) / 2, 0.5 * spacing)
        line = np.exp(-np.square(turn * distance / np.float32(half)))
        line[np.abs(turn) > 1.0] = 0
        np.maximum(strands, line * np.float32(rng.uniform(0.6, 1.0)), out=strands)
    moved += np.float32(strength) * ring * (strands + np.float32(0.25))
    brightness[r0:r1, c0:c1] = moved
