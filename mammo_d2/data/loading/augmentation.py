"""Random augmentation of a training image and its boxes.

All geometry is **one** affine matrix, applied to the pixels by one interpolation and to the boxes in closed form.
Coordinates are those of ``affine.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammo_d2.data.loading.affine import affine_matrix, transform_boxes, visible_boxes, warp_image
from mammo_d2.data.loading.random_windows import add_noise
from mammo_d2.data.reading.intensity import INPUT_FULL_SCALE
from mammo_d2.framework import CfgNode

# Draws of the geometry while every lesion is lost; after that the geometry stays as it is.
MAX_GEOMETRY_DRAWS = 10


@dataclass(frozen=True)
class Geometry:
    """What an augmentation does to the places in an image.

    Attributes:
        matrix: (2, 3), image -> augmented image.
        hole: the cutout square, XYXY in pixels of the augmented image, or None.
        boxes: (M, 4) boxes left, on the augmented image.
        kept: (M,) their indices among the boxes before.
    """

    matrix: np.ndarray
    hole: tuple[int, int, int, int] | None
    boxes: np.ndarray
    kept: np.ndarray


@dataclass(frozen=True)
class Augmentation:
    """Augments an image and its boxes with random numbers from a given generator only.

    Attributes:
        flip_horizontal, flip_vertical: probabilities.
        shift: largest shift as a fraction of the image's width and height.
        rotation: largest rotation about the image centre, in degrees, either way.
        scale: smallest and largest scale factor about the image centre.
        cutout_size: side of the square set to 0, in pixels (0: none); it lies inside the image.
        cutout_prob: its probability.
        brightness, contrast, gamma: largest relative changes.
        noise: standard deviation of Gaussian noise, as a fraction of the augmented image's own.
        min_visible: a box that keeps less than this part of its area inside the image and outside the cutout is
            dropped.
        keep_lesion: an image with boxes keeps at least one. Off for methods that learn from image labels: they must
            not use the boxes, not even in this way.
    """

    flip_horizontal: float = 0.0
    flip_vertical: float = 0.0
    shift: float = 0.0
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    cutout_size: int = 0
    cutout_prob: float = 0.5
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    noise: float = 0.0
    min_visible: float = 0.3
    keep_lesion: bool = True

    def __post_init__(self):
        for key in ("flip_horizontal", "flip_vertical", "cutout_prob", "min_visible"):
            _require(0.0 <= getattr(self, key) <= 1.0, key, getattr(self, key), "a number in 0..1")
        for key in ("shift", "brightness", "contrast", "gamma"):
            _require(0.0 <= getattr(self, key) < 1.0, key, getattr(self, key), "a fraction in [0, 1)")
        _require(self.noise >= 0.0, "noise", self.noise, "not negative")
        _require(0.0 <= self.rotation <= 180.0, "rotation", self.rotation, "degrees in 0..180")
        _require(self.cutout_size >= 0, "cutout_size", self.cutout_size, "a number of pixels, not negative")
        ordered = len(self.scale) == 2 and 0.0 < self.scale[0] <= self.scale[1]
        _require(ordered, "scale", self.scale, "[smallest, largest], both above 0")

    @classmethod
    def from_config(cls, cfg: CfgNode) -> Augmentation:
        """Make it from ``cfg.INPUT.AUG``."""
        aug = cfg.INPUT.AUG
        return cls(
            flip_horizontal=aug.FLIP_HORIZONTAL,
            flip_vertical=aug.FLIP_VERTICAL,
            shift=aug.SHIFT,
            rotation=aug.ROTATION,
            scale=tuple(aug.SCALE),
            cutout_size=aug.CUTOUT_SIZE,
            cutout_prob=aug.CUTOUT_PROB,
            brightness=aug.BRIGHTNESS,
            contrast=aug.CONTRAST,
            gamma=aug.GAMMA,
            noise=aug.NOISE,
            min_visible=aug.MIN_VISIBLE,
            keep_lesion=aug.KEEP_LESION,
        )

    def __call__(
        self, image: np.ndarray, boxes: np.ndarray, rng: np.random.Generator, fill: float = 0.0
    ) -> tuple[np.ndarray, Geometry]:
        """Augment one image.

        With ``keep_lesion`` an image that has boxes keeps at least one: a draw that loses all of them is repeated, and
        after ``MAX_GEOMETRY_DRAWS`` such draws the image's geometry is left as it is. Otherwise a lesion at the border
        would turn a positive image into one that a detector takes for healthy.

        Args:
            image: (H, W) float32 in 0..255; not modified.
            boxes: (N, 4) XYXY inside the image.
            rng: the only source of randomness.
            fill: grey level of the background, of what comes in from beyond the borders, and of the cutout.

        Returns:
            image (H, W) float32, and the geometry that was drawn, with the boxes that are left.
        """
        geometry = self.draw_geometry(image.shape, boxes, rng)
        image = warp_image(image, geometry.matrix, fill)
        image = adjust_intensity(image, *self.draw_intensity(rng))
        if geometry.hole is not None:
            x0, y0, x1, y1 = geometry.hole
            image[y0:y1, x0:x1] = fill
        if self.noise:
            image = add_noise(image, self.noise, rng)
        return image, geometry

    def draw_geometry(self, size: tuple[int, ...], boxes: np.ndarray, rng: np.random.Generator) -> Geometry:
        """Draw where everything goes.

        Args:
            size: (H, W).
            boxes, rng: see ``__call__``.
        """
        height, width = size
        boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        for _ in range(MAX_GEOMETRY_DRAWS):
            matrix = self.draw_matrix(height, width, rng)
            hole = self.draw_cutout(height, width, rng)
            moved, kept = visible_boxes(transform_boxes(boxes, matrix), height, width, self.min_visible, hole)
            if len(kept) or not len(boxes) or not self.keep_lesion:
                return Geometry(matrix, hole, moved, kept)
        return Geometry(np.eye(2, 3), None, boxes, np.arange(len(boxes)))

    def draw_matrix(self, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
        """Draw the geometry: (2, 3) float64. The same six numbers are drawn whatever is switched on."""
        flip_x, flip_y = rng.random(2) < (self.flip_horizontal, self.flip_vertical)
        shift_x, shift_y, turn = rng.uniform(-1.0, 1.0, 3) * (self.shift, self.shift, self.rotation)
        factor = rng.uniform(*self.scale)
        return affine_matrix(height, width, flip_x, flip_y, (shift_x, shift_y), turn, factor)

    def draw_cutout(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int] | None:
        """Draw the cutout square, XYXY in pixels inside the image, or None."""
        chance, at_x, at_y = rng.random(3)
        if self.cutout_size == 0 or chance >= self.cutout_prob:
            return None
        side_x, side_y = min(self.cutout_size, width), min(self.cutout_size, height)
        x0, y0 = int(at_x * (width - side_x + 1)), int(at_y * (height - side_y + 1))
        return x0, y0, x0 + side_x, y0 + side_y

    def draw_intensity(self, rng: np.random.Generator) -> tuple[float, float, float]:
        """Draw the factors of brightness and contrast and the exponent gamma; 1 is no change."""
        brightness, contrast, gamma = 1.0 + rng.uniform(-1.0, 1.0, 3) * (self.brightness, self.contrast, self.gamma)
        return float(brightness), float(contrast), float(gamma)


def adjust_intensity(image: np.ndarray, brightness: float, contrast: float, gamma: float) -> np.ndarray:
    """Change gamma, then contrast about the mean, then brightness; (H, W) float32 in 0..255 to the same.

    ``v -> 255 (v/255)^gamma``, ``v -> mean + contrast (v - mean)``, ``v -> brightness v``, clipped to 0..255. Pixels of
    value 0 are background or padding: they stay 0 and do not count for the mean.
    """
    if brightness == contrast == gamma == 1.0:
        return image
    tissue = image > 0.0
    values = image[tissue]
    if gamma != 1.0:
        values = INPUT_FULL_SCALE * (values / INPUT_FULL_SCALE) ** np.float32(gamma)
    if contrast != 1.0 and values.size:
        mean = values.mean(dtype=np.float64)
        values = np.float32(mean) + np.float32(contrast) * (values - np.float32(mean))
    adjusted = np.zeros_like(image)
    adjusted[tissue] = np.clip(values * np.float32(brightness), 0.0, INPUT_FULL_SCALE)
    return adjusted


def _require(condition: bool, key: str, value: object, wanted: str) -> None:
    if not condition:
        raise ValueError(f"INPUT.AUG.{key.upper()} is {value!r}; it must be {wanted}")
