"""What surrounds the breast: burnt-in view markers, film fog and grain."""

from __future__ import annotations

import cv2
import numpy as np


def film_background(image: np.ndarray, rng: np.random.Generator) -> None:
    """Add the fog, the uneven light and the grain of a digitised film to the whole image, in place.

    Args:
        image: (rows, cols) float32 0..1.
        rng: random stream.
    """
    rows, cols = image.shape
    fog = np.float32(rng.uniform(0.015, 0.05))
    ramp = np.linspace(-1, 1, rows, dtype=np.float32)[:, None] * np.float32(rng.normal(0, 0.006))
    ramp = ramp + np.linspace(-1, 1, cols, dtype=np.float32)[None, :] * np.float32(rng.normal(0, 0.006))
    grain = rng.standard_normal((rows, cols), np.float32)
    image *= np.float32(0.97)
    image += fog + ramp + np.float32(0.0035) * grain
    np.clip(image, 0, 1, out=image)


def add_marker(image: np.ndarray, breast_mask: np.ndarray, text: str, spacing: float, film: bool,
               rng: np.random.Generator) -> bool:  # fmt: skip
    """Burn a view marker into a free corner away from the chest wall, in place.

    On film it is a bright lead label with dark letters, else bright letters.

    Args:
        image: (rows, cols) float32 0..1 in final orientation.
        breast_mask: (rows, cols) bool.
        text: what it says; letters, no identity.
        spacing: pixel side, mm.
        film: style of the marker.
        rng: random stream.

    Returns:
        Whether there was room for it.
    """
    rows, cols = image.shape
    scale = 5.5 / spacing / 22.0  # Hershey capitals are about 22 pixels high at scale 1: letters of 5.5 mm
    thickness = max(1, round(0.7 / spacing))
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, thickness)
    pad = max(2, round(2.0 / spacing))
    box_w, box_h = width + 2 * pad, height + 2 * pad
    gap = round(rng.uniform(3, 14) / spacing)
    left = gap if breast_mask[:, -1].any() else cols - gap - box_w
    for top in (round(rng.uniform(4, 22) / spacing), rows - round(rng.uniform(4, 14) / spacing) - box_h):
        window = np.s_[max(0, top - pad) : top + box_h + pad, max(0, left - pad) : left + box_w + pad]
        if left < 0 or top < 0 or breast_mask[window].any():
            continue
        glyphs = np.zeros((box_h, box_w), np.uint8)
        cv2.putText(glyphs, text, (pad, pad + height), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, thickness, cv2.LINE_AA)
        alpha = glyphs.astype(np.float32) / 255
        target = image[top : top + box_h, left : left + box_w]
        bright = np.float32(rng.uniform(0.75, 0.95))
        if film:
            target[...] = bright * (1 - alpha) + np.float32(0.1) * alpha
        else:
            target[...] = np.maximum(target, bright * alpha)
        return True
    return False
