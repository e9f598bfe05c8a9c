"""Masses and look-alikes: what they are like (drawn once) and how they look in one view (rendered on a patch).

Every mass and look-alike is an additive brightness pattern on a square patch, scaled so that its *blob strength* (the
best response of a difference-of-Gaussians over scales, the mean of it and of the blurred peak) is the drawn contrast.
Contrast and size come from the same distributions for malignant masses, benign masses and look-alikes. Brightness and
blob filters therefore do not tell them apart; structure does:

* malignant: lobed, jagged outline with an abrupt but uneven margin, and fine spicules that all run to the centre;
* benign: round or oval, smooth outline, sharp margin that is partly obscured by tissue in front of it;
* intermediate (see ``PhantomConfig.context_malignancy``): between the two, a few short spicules;
* look-alike "island": superimposed tissue, as lobed, but with a softer, gradual margin and no spicules (how much softer
  is ``PhantomConfig.distractor_likeness``);
* look-alike "crossing": the same with strands as bright as spicules that pass at random in two or three directions and
  meet nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np

from mammo_d2.phantom.breast.noise import power_law

LOOKS = ("malignant", "benign", "intermediate", "island", "crossing")


@dataclass(frozen=True)
class _Character:
    """Ranges that a look's character is drawn from; the fields are those of ``Mass``."""

    lobes: float  # amplitude of the lowest harmonic; the k-th has lobes / k^lobe_fall
    lobe_fall: float
    elongation: tuple[float, float]
    margin: tuple[float, float]
    teeth: float
    grain: float
    spicules: tuple[int, int] = (0, 0)
    reach: tuple[float, float] = (1.0, 1.0)
    spicule_strength: tuple[float, float] = (0.0, 0.0)
    obscured: tuple[float, float] = (0.0, 0.0)


_CHARACTERS = {
    "malignant": _Character(
        lobes=0.16, lobe_fall=0.5, elongation=(1.0, 1.35), margin=(0.10, 0.22), teeth=0.055, grain=0.15,
        spicules=(13, 21), reach=(2.0, 2.8), spicule_strength=(0.70, 1.0), obscured=(0.2, 0.2),
    ),
    "intermediate": _Character(
        lobes=0.09, lobe_fall=0.5, elongation=(1.0, 1.4), margin=(0.16, 0.28), teeth=0.03, grain=0.13,
        spicules=(5, 9), reach=(1.4, 1.9), spicule_strength=(0.30, 0.50), obscured=(0.3, 0.3),
    ),
    "benign": _Character(
        lobes=0.035, lobe_fall=1.0, elongation=(1.0, 1.5), margin=(0.07, 0.14), teeth=0.0, grain=0.10,
        obscured=(0.1, 0.4),
    ),
}  # fmt: skip
# Look-alikes: wholly unlike the body of a malignant mass, and as like as its missing structure allows.
_UNLIKE, _ALIKE = (
    _Character(
        lobes=0.20, lobe_fall=0.5, elongation=(1.0, 1.5), margin=margin, teeth=teeth, grain=grain,
        spicules=(7, 12), reach=(2.2, 3.2), spicule_strength=(0.70, 1.0),
    )
    for margin, teeth, grain in (((0.85, 1.15), 0.0, 0.28), ((0.30, 0.60), 0.05, 0.18))
)  # fmt: skip


@dataclass(frozen=True)
class Mass:
    """One mass or look-alike, the same in every view that shows it.

    Attributes:
        look: one of ``LOOKS``.
        radius: mean radius of the body, mm.
        contrast: blob strength, fraction of full scale.
        elongation: long over short axis of the body.
        angle: direction of the long axis in CC, radians.
        lobes: (7,) relative amplitudes of the outline's harmonics 2 to 8.
        margin: width of the margin relative to the radius.
        teeth: size of the outline's small teeth in radii.
        grain: relative strength of the texture inside the body.
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
    teeth: float
    grain: float
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


def draw_mass(look: str, sizes: tuple[float, float], contrast_scale: float, rng: np.random.Generator,
              likeness: float = 0.5) -> Mass:  # fmt: skip
    """Draw one mass or look-alike; size and contrast do not depend on the look.

    Args:
        look: one of ``LOOKS``.
        sizes: smallest and largest diameter, mm.
        contrast_scale: factor on the contrast.
        rng: random stream.
        likeness: 0..1, how much the body of a look-alike resembles a malignant one.

    Raises:
        ValueError: unknown look.
    """
    if look not in LOOKS:
        raise ValueError(f"draw_mass: look {look!r} is unknown; use one of {', '.join(LOOKS)}")
    radius = rng.uniform(*sizes) / 2
    contrast = float(np.clip(rng.normal(0.130, 0.024), 0.085, 0.19)) * contrast_scale
    character = _CHARACTERS.get(look) or _look_alike(look, likeness)
    lobes = rng.normal(0, character.lobes, 7) / np.arange(2, 9) ** character.lobe_fall
    return Mass(
        look=look,
        radius=float(radius),
        contrast=contrast,
        lobes=tuple(float(v) for v in lobes),
        elongation=float(rng.uniform(*character.elongation)),
        angle=float(rng.uniform(0, np.pi)),
        margin=float(rng.uniform(*character.margin)),
        teeth=character.teeth,
        grain=character.grain,
        spicules=int(rng.integers(character.spicules[0], character.spicules[1], endpoint=True)),
        reach=float(rng.uniform(*character.reach)),
        spicule_strength=float(rng.uniform(*character.spicule_strength)),
        obscured=float(rng.uniform(*character.obscured)),
        seed=int(rng.integers(1 << 31)),
    )


def _look_alike(look: str, likeness: float) -> _Character:
    """Character of a look-alike between wholly unlike (0) and as like as possible (1) to a malignant body."""

    def between(first: float, second: float) -> float:
        return first + likeness * (second - first)

    mixed = replace(
        _UNLIKE,
        margin=(between(_UNLIKE.margin[0], _ALIKE.margin[0]), between(_UNLIKE.margin[1], _ALIKE.margin[1])),
        teeth=between(_UNLIKE.teeth, _ALIKE.teeth),
        grain=between(_UNLIKE.grain, _ALIKE.grain),
    )
    return mixed if look == "crossing" else replace(mixed, spicules=(0, 0), reach=(1.0, 1.0))


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
    form = cover * dome * (np.float32(1) + np.float32(mass.grain) * rough)
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
    """Radius of the outline in units of the mean radius, at the polar angles ``theta``."""
    t = np.linspace(0, 2 * np.pi, 361)
    angle = mass.angle + rng.normal(0, 0.4)
    long, short = np.sqrt(mass.elongation), 1 / np.sqrt(mass.elongation)
    r = 1 / np.sqrt((np.cos(t - angle) / long) ** 2 + (np.sin(t - angle) / short) ** 2)
    for k, amplitude in enumerate(mass.lobes, start=2):
        r += amplitude * np.cos(k * t + rng.uniform(0, 2 * np.pi))
    if mass.teeth:
        teeth = rng.normal(0, 1, 60)
        r += mass.teeth * np.interp(t, np.linspace(0, 2 * np.pi, 61), np.append(teeth, teeth[0]))
    r = np.clip(r, 0.55, 1.6)
    return np.interp(theta, t, r).astype(np.float32)


def _margin(mass: Mass, theta: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Width of the margin in radii at the polar angles ``theta``; wider where tissue veils it."""
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
