"""Random versions of an image at test, whose predictions the model averages (``TEST.WINDOWS``)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from mammo_d2.framework import CfgNode


@dataclass(frozen=True)
class RandomWindows:
    """How many versions, and how they differ.

    Attributes:
        count: versions of an image; 1: the image as it is.
        shift: largest shift of the breast window in pixels, along both axes.
        noise: standard deviation of Gaussian noise, as a fraction of the image's own.
    """

    count: int = 1
    shift: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        varied = self.shift > 0 or self.noise > 0
        if self.count < 1 or self.shift < 0 or self.noise < 0 or (self.count > 1) != varied:
            raise ValueError(
                f"TEST.WINDOWS: COUNT {self.count}, SHIFT {self.shift}, NOISE {self.noise}: random windows need a "
                "COUNT above 1 and a positive SHIFT or NOISE; without them COUNT is 1 and both are 0"
            )

    @classmethod
    def from_config(cls, cfg: CfgNode) -> RandomWindows:
        """Make it from ``cfg.TEST.WINDOWS``."""
        keys = cfg.TEST.WINDOWS
        return cls(keys.COUNT, keys.SHIFT, keys.NOISE)

    def generators(self, image_id: object) -> list[np.random.Generator]:
        """A generator for each version of an image, the same in every evaluation; none for a count of 1."""
        if self.count == 1:
            return []
        digest = hashlib.blake2b(repr(image_id).encode(), digest_size=8).digest()
        return [np.random.default_rng([int.from_bytes(digest, "little"), number]) for number in range(self.count)]


def draw_offset(largest: int, rng: np.random.Generator) -> tuple[int, int]:
    """Shift (x, y) of a window, uniform in whole pixels of -largest to largest."""
    x, y = rng.integers(-largest, largest, 2, endpoint=True)
    return int(x), int(y)


def add_noise(image: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Add Gaussian noise to (H, W) float32; a new array.

    Args:
        image: the network image.
        noise: standard deviation, as a fraction of the image's own (1 for a standardised window).
        rng: source of randomness.
    """
    return image + np.float32(noise * float(image.std())) * rng.standard_normal(image.shape, dtype=np.float32)
