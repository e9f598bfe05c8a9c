"""Breasts with a random texture of their own, for tests that compare images."""

import cv2
import numpy as np

from tests.data.breast_images import half_ellipse


def textured_breast(seed: int, side: str = "left") -> np.ndarray:
    """uint16 (400, 300), values up to about 50,000; the texture is a breast's: strong coarse, weak fine structure."""
    image, mask = half_ellipse()
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(image.shape).astype(np.float32)
    texture = sum(scale * cv2.GaussianBlur(noise, (0, 0), scale) for scale in (2, 4, 8, 16))
    out = np.where(mask, 20000 + 8000 * texture, 300).clip(0, 60000).astype(np.uint16)
    return out if side == "left" else np.ascontiguousarray(out[:, ::-1])
