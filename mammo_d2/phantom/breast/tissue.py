"""Healthy breast tissue: fibroglandular islands, ducts, ligaments, vessels, pectoral fibres, and the final tone.

Brightness is in fractions of full scale. Tissue adds up (projection), lesions are added to it, and ``finish`` then puts
skin, thickness roll-off, noise and the detector's range on top.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from mammo_d2.phantom.breast.anatomy import Breast, Patient
from mammo_d2.phantom.breast.noise import line_network, power_law, smooth, streaks
from mammo_d2.phantom.breast.outline import ViewGeometry

MAX_VALUE = 4095

_FAT = 0.20
_GLAND = 0.30
_MUSCLE = 0.24


@dataclass(frozen=True)
class Tissue:
    """Healthy tissue of one view.

    Attributes:
        brightness: (rows, work columns) float32, before lesions and before ``finish``.
        gland: (rows, work columns) float32 0..1, fibroglandular coverage.
    """

    brightness: np.ndarray
    gland: np.ndarray


def make_tissue(geometry: ViewGeometry, patient: Patient, breast: Breast, rng: np.random.Generator) -> Tissue:
    """Fill the outline with tissue."""
    shape, spacing = geometry.shape, geometry.spacing
    x, y = geometry.grid()
    dx, dy = x - np.float32(geometry.nipple[0]), y - np.float32(geometry.nipple[1])
    posterior = dx * np.float32(geometry.axis[0]) + dy * np.float32(geometry.axis[1])
    lateral = dx * np.float32(geometry.lateral[0]) + dy * np.float32(geometry.lateral[1])

    noise = power_law(shape, spacing, patient.beta, rng)
    gland = _gland(geometry, breast, posterior, lateral, noise, rng)
    radius, angle = cv2.cartToPolar(posterior, lateral)
    angle = np.where(angle > np.float32(np.pi), angle - np.float32(2 * np.pi), angle)
    ducts = streaks(radius, angle, 30.0, 0.05, rng)
    ducts += 0.7 * streaks(radius, angle, 18.0, 0.022, rng)
    fine = power_law(shape, spacing, 2.6, rng, outer_mm=12.0)
    # Glandular islands are crossed by paler septa and darker fat clefts.
    septa = line_network(shape, spacing, 9.0, 0.9, rng)

    dense = gland * (np.float32(0.56) + np.float32(0.14) * noise + np.float32(0.08) * fine + np.float32(0.075) * ducts)
    dense += np.float32(0.16) * septa * np.sqrt(gland)
    image = np.full(shape, _FAT, np.float32)
    image += np.float32(_GLAND) * dense
    image += np.float32(0.018) * noise + np.float32(0.012) * fine

    ligaments = line_network(shape, spacing, 26.0, 0.75, rng)
    ligaments += np.float32(0.8) * line_network(shape, spacing, 17.0, 0.5, rng)
    ligaments += np.float32(0.7) * line_network(shape, spacing, 12.0, 0.4, rng)
    image += np.float32(0.075 * patient.ligaments) * ligaments
    image += np.float32(0.09) * _vessels(geometry, rng)
    if geometry.pectoral_soft is not None:
        image = _put_muscle(image, geometry, rng)
    return Tissue(image, gland)


def finish(geometry: ViewGeometry, brightness: np.ndarray, film: bool, rng: np.random.Generator) -> np.ndarray:
    """Skin, thickness roll-off, tone curve and noise.

    Args:
        geometry: the view.
        brightness: float32 tissue with lesions, (rows, work columns).
        film: digitised film (grain, dark edge) instead of a digital detector.
        rng: random stream.

    Returns:
        float32 brightness 0..1, background 0.
    """
    spacing = np.float32(geometry.spacing)
    distance = geometry.skin_distance
    width = np.float32(26.0 if film else 15.0)
    depth = np.float32(0.72 if film else 0.50)
    edge = np.clip(1.0 - distance / width, 0.0, 1.0)
    roll = np.float32(1.0) - depth * edge * edge
    image = brightness * roll
    # The skin is a line of its own just inside the edge; the edge itself is a pixel or so of partial volume.
    skin = np.exp(-np.square((distance - np.float32(1.0)) / np.float32(max(0.8, 0.8 * spacing))))
    uneven = smooth(geometry.shape, geometry.spacing, 25.0, rng)
    image += np.float32(0.03 if film else 0.075) * skin * (np.float32(1) + np.float32(0.35) * uneven)
    nx, ny = geometry.nipple
    x, y = geometry.grid()
    nipple = np.exp(-(np.square((x - np.float32(nx - 0.5)) / 4.0) + np.square((y - np.float32(ny)) / 5.0)))
    image += np.float32(0.13) * nipple.astype(np.float32)
    image *= np.clip(distance / np.float32(max(0.8, 1.5 * spacing)), 0.0, 1.0)
    # Soft shoulder: bright tissue is compressed rather than clipped.
    knee = np.float32(0.62)
    over = np.maximum(image - knee, 0.0)
    image = np.minimum(image, knee) + np.float32(0.30) * np.tanh(over / np.float32(0.30))

    grain = rng.standard_normal(geometry.shape, np.float32)
    if film:
        grain = cv2.GaussianBlur(grain, (0, 0), 0.7) * np.float32(2.4)
    # A real detector is sampled at about 0.07 mm; a coarser pixel averages over more quanta.
    level = np.float32(0.016 * np.clip(0.25 / geometry.spacing, 0.6, 1.6))
    image += level * grain * np.sqrt(np.clip(image, 0.02, 1.0)) * geometry.mask
    return np.clip(image, 0.0, 1.0)


def _gland(geometry: ViewGeometry, breast: Breast, posterior: np.ndarray, lateral: np.ndarray, noise: np.ndarray,
           rng: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Coverage 0..1: a disc behind the nipple broken into islands by power-law noise, subcutaneous fat left free."""
    centre = np.float32(breast.depth * rng.uniform(0.40, 0.50))
    reach = np.float32(breast.depth * 0.52)
    spread = np.float32(breast.chord * 0.34)
    offset = np.float32(breast.chord * breast.gland_offset)
    form = np.square((posterior - centre) / reach) + np.square((lateral - offset) / spread)
    # Islands have smoother borders than the noise inside them.
    rounded = cv2.GaussianBlur(noise, (0, 0), max(0.5, 1.3 / geometry.spacing))
    potential = np.float32(0.85) * rounded - np.float32(1.1) * form
    fat_layer = np.float32(rng.uniform(8.0, 14.0))
    potential -= np.float32(2.2) * np.square(np.clip(1.0 - geometry.skin_distance / fat_layer, 0.0, 1.0))
    inside = geometry.mask.copy()
    if geometry.pectoral_soft is not None:
        inside &= geometry.pectoral_soft < 0.5
        potential -= np.float32(2.0) * geometry.pectoral_soft
    sample = potential[::3, ::3][inside[::3, ::3]]
    threshold = np.float32(np.quantile(sample, 1.0 - breast.gland_share))
    softness = np.float32(rng.uniform(0.22, 0.36))
    return np.float32(1.0) / (np.float32(1.0) + np.exp(np.minimum((threshold - potential) / softness, 40)))


def _vessels(geometry: ViewGeometry, rng: np.random.Generator) -> np.ndarray:
    """A few tortuous vessels that run from the chest wall towards the nipple; float32 0..1."""
    canvas = np.zeros(geometry.shape, np.uint8)
    spacing = geometry.spacing
    for _ in range(int(rng.integers(2, 6))):
        length = rng.uniform(45, 95)
        steps = np.linspace(0, 1, 40)
        back = rng.uniform(12, 45) + length * steps
        side = rng.uniform(-45, 45) * (0.55 + 0.45 * steps) + np.cumsum(rng.normal(0, 0.9, 40))
        side += rng.uniform(1, 4) * np.sin(steps * rng.uniform(6, 16) + rng.uniform(0, 6))
        points = np.array(geometry.nipple) + back[:, None] * geometry.axis + side[:, None] * geometry.lateral
        fixed = np.round((points / spacing - 0.5) * 16).astype(np.int32)
        thickness = max(1, round(rng.uniform(0.8, 1.7) / spacing))
        cv2.polylines(canvas, [fixed[:, None, :]], False, int(rng.uniform(90, 255)), thickness, cv2.LINE_AA, 4)
    blurred = cv2.GaussianBlur(canvas, (0, 0), max(0.5, 0.35 / spacing))
    return blurred.astype(np.float32) * np.float32(1 / 255)


def _put_muscle(image: np.ndarray, geometry: ViewGeometry, rng: np.random.Generator) -> np.ndarray:
    """Lay the pectoral muscle over the tissue: brighter, with fibres along its edge."""
    x, y = geometry.grid()
    across = x * np.float32(geometry.axis[0]) + y * np.float32(geometry.axis[1])
    along = x * np.float32(geometry.lateral[0]) + y * np.float32(geometry.lateral[1])
    fibres = 0.7 * streaks(along, across, 70.0, 5.0, rng) + 0.5 * streaks(along, across, 24.0, 1.4, rng)
    cover = geometry.pectoral_soft
    muscle = np.float32(_MUSCLE * rng.uniform(0.75, 1.15)) + np.float32(0.013) * fibres
    muscle += np.float32(0.02) * smooth(geometry.shape, geometry.spacing, 45.0, rng)
    return image + cover * (muscle - np.float32(0.3) * (image - np.float32(_FAT)))
