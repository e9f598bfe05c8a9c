"""Masses and look-alikes: what they are like (drawn once) and how they look in one view (rendered on a patch).

Every mass and look-alike is an additive brightness pattern on a square patch, scaled so that its *blob strength* (the
best response of a difference-of-Gaussians over scales, the mean of it and of the blurred peak) is the drawn contrast.
Contrast and size come from the same distributions for malignant masses, benign masses and look-alikes. Brightness and
blob filters therefore do not tell them apart; structure does:

* malignant: lobed, jagged outline with an abrupt but uneven margin, and fine spicules that all run to the centre;
* benign: round or oval, smooth outline, sharp margin that is partly obscured by tissue in front of it;
* intermediate (see `PhantomConfig.context_malignancy`): between the two, a few short spicules;
* look-alike "island": superimposed tissue, as lobed and jagged, but with a soft, gradual margin and no spicules;
* look-alike "crossing": the same with strands as bright as spicules that pass at random in two or three directions and
  meet nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np

from .noise import power_law

LOOKS = ("malignant", "benign", "intermediate", "island", "crossing")

# Relative strength of the texture inside the body.
_GRAIN = {"malignant": 0.15, "benign": 0.10, "intermediate": 0.13, "island": 0.20, "crossing": 0.20}
# Size of the small teeth of the outline, in radii.
_TEETH = {"malignant": 0.055, "intermediate": 0.03, "island": 0.05, "crossing": 0.05}


@dataclass(frozen=True)
class Mass:
    """One mass or look-alike, the same in every view that shows it.

    Attributes:
        look: one of `LOOKS`.
        radius: mean radius of the body, mm.
        contrast: blob strength, fraction of full scale.
        elongation: long over short axis of the body.
        angle: direction of the long axis in CC, radians.
        lobes: (7,) relative amplitudes of the outline's harmonics 2 to 8.
        margin: width of the margin relative to the radius.
        spicules: number of spicules or strands.
        reach: length of spicules in radii, from the centre.
        spicule_strength: brightness of a spicule at its root relative to the body.
        obscured: share of the circumference where the margin is veiled.
        seed: seed of the details.
    """

    look: str
    radius: float
    contrast: float
    elongation: float
    angle: float
    lobes: tuple[float, ...]
    margin: float
    spicules: int
    reach: float
    spicule_strength: float
    obscured: float
    seed: int

    @property
    def clearance(self) -> float:
        """Radius in mm of the disc that no other finding's disc may touch."""
        return self.radius * 1.5


@dataclass(frozen=True)
class Rendered:
    """A finding in one view, on a patch.

    Attributes:
        pattern: (n, n) float32 brightness to add.
        body: (n, n) bool, the body with its margin but without spicules or strands.
        origin: (row, col) of the patch's first pixel in the image; may be negative.
    """

    pattern: np.ndarray
    body: np.ndarray
    origin: tuple[int, int]


def draw_mass(look: str, sizes: tuple[float, float], contrast_scale: float, rng: np.random.Generator) -> Mass:
    """Draw one mass or look-alike; size and contrast do not depend on the look.

    Args:
        look: one of `LOOKS`.
        sizes: smallest and largest diameter, mm.
        contrast_scale: factor on the contrast.
        rng: random stream.

    Raises:
        ValueError: unknown look.
    """
    if look not in LOOKS:
        raise ValueError(f"draw_mass: look {look!r} is unknown; use one of {', '.join(LOOKS)}")
    radius = rng.uniform(*sizes) / 2
    contrast = float(np.clip(rng.normal(0.130, 0.024), 0.085, 0.19)) * contrast_scale
    harmonics = np.arange(2, 9)
    extra: dict[str, Any]
    if look == "malignant":
        lobes = rng.normal(0, 0.16, 7) / np.sqrt(harmonics)
        extra = {"margin": rng.uniform(0.10, 0.22), "spicules": int(rng.integers(13, 22)), "obscured": 0.2,
                 "reach": rng.uniform(2.0, 2.8), "spicule_strength": rng.uniform(0.70, 1.0)}  # fmt: skip
        elongation = rng.uniform(1.0, 1.35)
    elif look == "intermediate":
        lobes = rng.normal(0, 0.09, 7) / np.sqrt(harmonics)
        extra = {"margin": rng.uniform(0.16, 0.28), "spicules": int(rng.integers(5, 10)), "obscured": 0.3,
                 "reach": rng.uniform(1.4, 1.9), "spicule_strength": rng.uniform(0.30, 0.50)}  # fmt: skip
        elongation = rng.uniform(1.0, 1.4)
    elif look == "benign":
        lobes = rng.normal(0, 0.035, 7) / harmonics
        extra = {"margin": rng.uniform(0.07, 0.14), "spicules": 0, "obscured": rng.uniform(0.1, 0.4),
                 "reach": 1.0, "spicule_strength": 0.0}  # fmt: skip
        elongation = rng.uniform(1.0, 1.5)
    else:
        lobes = rng.normal(0, 0.20, 7) / np.sqrt(harmonics)
        strands = int(rng.integers(7, 13)) if look == "crossing" else 0
        extra = {"margin": rng.uniform(0.32, 0.65), "spicules": strands, "obscured": 0.0,
                 "reach": rng.uniform(2.2, 3.2), "spicule_strength": rng.uniform(0.70, 1.0)}  # fmt: skip
        elongation = rng.uniform(1.0, 1.5)
    return Mass(
        look=look, radius=float(radius), contrast=contrast, elongation=float(elongation),
        angle=float(rng.uniform(0, np.pi)), lobes=tuple(float(v) for v in lobes), seed=int(rng.integers(1 << 31)),
        **extra,
    )  # fmt: skip


def render_mass(mass: Mass, centre: tuple[float, float], spacing: float, view: int) -> Rendered:
    """Render a mass or look-alike.

    Args:
        mass: what to render.
        centre: (x, y) in mm.
        spacing: pixel side, mm.
        view: number of the view; the projection differs a little from view to view.
    """
    rng = np.random.default_rng([mass.seed, view])
    x, y, origin = patch_grid(centre, mass.radius * max(2.2, mass.reach + 0.2), spacing)
    distance, theta = cv2.cartToPolar(np.broadcast_to(x, (y.shape[0], x.shape[1])).copy(),
                                      np.broadcast_to(y, (y.shape[0], x.shape[1])).copy())  # fmt: skip
    edge = _outline(mass, theta, rng)
    margin = _margin(mass, theta, rng)
    depth = edge - distance / np.float32(mass.radius)  # in radii, positive inside
    # Half a margin inside the outline to half a margin outside; never sharper than the pixel grid allows.
    width = np.maximum(margin, np.float32(1.2 * spacing / mass.radius))
    cover = np.clip(depth / width + np.float32(0.5), 0, 1)
    cover = cover * cover * (np.float32(3) - np.float32(2) * cover)
    rough = power_law(cover.shape, spacing, 2.8, rng, outer_mm=2.5 * mass.radius)
    relative = np.clip(distance / np.float32(mass.radius) / edge, 0, 1)
    dome = np.float32(0.70) + np.float32(0.30) * np.sqrt(np.float32(1) - relative * relative)
    form = cover * dome * (np.float32(1) + np.float32(_GRAIN[mass.look]) * rough)
    if mass.spicules:
        lines = (
            _strands(mass, x, y, spacing, rng)
            if mass.look == "crossing"
            else _spicules(mass, distance, theta, spacing, rng)
        )
        form = np.maximum(form, np.float32(mass.spicule_strength) * lines)
    pattern = form * np.float32(mass.contrast / blob_strength(form, spacing))
    body = depth > -0.5 * np.minimum(margin, np.float32(0.25))
    return Rendered(pattern, body, origin)


def patch_grid(centre: tuple[float, float], half: float, spacing: float):
    """Square patch around a point: x (1, n) and y (n, 1) in mm from the centre, and the first pixel's (row, col)."""
    pixels = int(np.ceil(half / spacing))
    col, row = (int(np.floor(v / spacing)) - pixels for v in centre)
    steps = np.arange(2 * pixels + 1, dtype=np.float32)
    x = (steps + np.float32(col + 0.5)) * np.float32(spacing) - np.float32(centre[0])
    y = (steps + np.float32(row + 0.5)) * np.float32(spacing) - np.float32(centre[1])
    return x[None, :], y[:, None], (row, col)


def blob_strength(pattern: np.ndarray, spacing: float) -> float:
    """How strongly a blob detector sees a pattern: mean of its blurred peak and its best difference of Gaussians.

    Args:
        pattern: (n, n) float32 on a zero background.
        spacing: pixel side, mm.
    """
    step = max(1, int(0.8 / spacing))
    if step > 1:
        size = (max(1, pattern.shape[1] // step), max(1, pattern.shape[0] // step))
        pattern = cv2.resize(pattern, size, interpolation=cv2.INTER_AREA)
        spacing = spacing * step
    sigmas = (1.5, 2.4, 4.0, 6.5)
    levels = [cv2.GaussianBlur(pattern, (0, 0), s / spacing, borderType=cv2.BORDER_CONSTANT) for s in sigmas]
    best = max(float((fine - coarse).max()) for fine, coarse in pairwise(levels))
    return 0.5 * float(levels[0].max()) + 1.0 * best


def _outline(mass: Mass, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Radius of the outline in units of the mean radius, at the polar angles `theta`."""
    t = np.linspace(0, 2 * np.pi, 361)
    angle = mass.angle + rng.normal(0, 0.4)
    long, short = np.sqrt(mass.elongation), 1 / np.sqrt(mass.elongation)
    r = 1 / np.sqrt((np.cos(t - angle) / long) ** 2 + (np.sin(t - angle) / short) ** 2)
    for k, amplitude in enumerate(mass.lobes, start=2):
        r += amplitude * np.cos(k * t + rng.uniform(0, 2 * np.pi))
    if mass.look in _TEETH:
        teeth = rng.normal(0, 1, 60)
        r += _TEETH[mass.look] * np.interp(t, np.linspace(0, 2 * np.pi, 61), np.append(teeth, teeth[0]))
    r = np.clip(r, 0.55, 1.6)
    return np.interp(theta, t, r).astype(np.float32)


def _margin(mass: Mass, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Width of the margin in radii at the polar angles `theta`; wider where tissue veils it."""
    t = np.linspace(0, 2 * np.pi, 181)
    veil = sum(rng.normal() * np.cos(k * t + rng.uniform(0, 6.3)) for k in (1, 2, 3))
    veil = np.clip((veil - np.quantile(veil, 1 - mass.obscured)) * 2, 0, 1) if mass.obscured else np.zeros_like(t)
    return np.interp(theta, t, mass.margin * (1 + 4 * veil)).astype(np.float32)


def _spicules(mass: Mass, distance: np.ndarray, theta: np.ndarray, spacing: float,
              rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Tapering, slightly bent lines from inside the body outwards; 0..1, strongest where they leave the body."""
    out = np.zeros_like(distance)
    ratio = distance / np.float32(mass.radius)
    starts = (np.arange(mass.spicules) + rng.uniform(-0.35, 0.35, mass.spicules)) * 2 * np.pi / mass.spicules
    for start in starts:
        reach = 1 + (mass.reach - 1) * rng.uniform(0.40, 1.0)
        bend = rng.normal(0, 0.10)
        turn = theta - np.float32(start) - np.float32(bend) * (ratio - np.float32(1))
        turn -= np.float32(2 * np.pi) * np.round(turn * np.float32(1 / (2 * np.pi)))
        taper = np.clip((np.float32(reach) - ratio) / np.float32(reach - 0.8), 0, 1)
        full = rng.uniform(1.1, 2.0)  # mm, full width at the root
        half = np.maximum(np.float32(full) * (np.float32(0.18) + np.float32(0.32) * taper), np.float32(0.5 * spacing))
        line = np.exp(-np.square(turn * distance / half)) * np.minimum(1, full / (2 * half))
        line[np.abs(turn) > 1.2] = 0
        np.maximum(out, line * np.sqrt(taper) * np.float32(rng.uniform(0.7, 1.0)), out=out)
    return out


def _strands(mass: Mass, x: np.ndarray, y: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Bent lines in two or three directions that pass the body at random distances; 0..1."""
    out = np.zeros((y.shape[0], x.shape[1]), np.float32)
    turns = np.array([0, rng.uniform(0.6, 1.2), rng.uniform(1.6, 2.4)])[: rng.integers(2, 4)]
    directions = rng.uniform(0, np.pi) + turns
    for _ in range(mass.spicules):
        angle = rng.choice(directions) + rng.normal(0, 0.10)
        offset = mass.radius * rng.uniform(0.3, 1.4) * rng.choice([-1, 1])
        along = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
        across = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle)) - np.float32(offset)
        across = across - np.float32(rng.normal(0, 0.10) / mass.radius) * along * along
        middle = mass.radius * rng.uniform(-0.8, 0.8)
        length = mass.radius * mass.reach * rng.uniform(0.6, 0.9)
        fade = np.clip(1 - np.square((along - np.float32(middle)) / np.float32(length)), 0, 1)
        full = rng.uniform(1.1, 2.0)
        half = max(full / 2, 0.5 * spacing)
        line = np.exp(-np.square(across / np.float32(half))) * np.float32(min(1, full / (2 * half)))
        np.maximum(out, line * fade * np.float32(rng.uniform(0.7, 1.0)), out=out)
    return out
