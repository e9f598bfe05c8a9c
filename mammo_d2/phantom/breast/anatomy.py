"""What a patient and her breasts are like: numbers drawn once, before any pixel exists. All lengths in mm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammo_d2.phantom.settings import PhantomConfig
from mammo_d2.phantom.streams import stream

# Glandular share of the projected breast, by density category a-d.
_GLAND_SHARE = {"a": (0.06, 0.14), "b": (0.16, 0.30), "c": (0.32, 0.50), "d": (0.52, 0.70)}
_DENSITY_PROBABILITY = (0.14, 0.38, 0.36, 0.12)


@dataclass(frozen=True)
class Breast:
    """One breast of a patient.

    Attributes:
        depth: nipple to chest wall in CC.
        chord: length of the breast along the chest wall in CC.
        pointedness: exponent of the outline; above 1 conical, below 1 round.
        tilt: shift of the nipple along the chest wall in CC, as a fraction of the chord (positive: downwards).
        gland_share: glandular share of the projected area.
        gland_offset: shift of the glandular centre to the lateral (CC) or upper (MLO) side, fraction of the chord.
        axilla: width of the image's top that is covered in MLO, as a fraction of the depth.
        pectoral_width, pectoral_height: muscle at the top and along the chest wall in MLO, as fractions of the covered
            width at the top and of the distance from the top to the inframammary fold.
        nipple_mlo: height of the nipple in MLO as a fraction of the image height.
    """

    depth: float
    chord: float
    pointedness: float
    tilt: float
    gland_share: float
    gland_offset: float
    axilla: float
    pectoral_width: float
    pectoral_height: float
    nipple_mlo: float


@dataclass(frozen=True)
class Patient:
    """One patient: what both breasts share, and the breasts ("L", "R").

    Attributes:
        patient_class: one of ``PATIENT_CLASSES``.
        density: category "a" to "d".
        age_years, thickness_mm, kvp: for the DICOM header.
        beta: exponent of the tissue's power spectrum (two-dimensional, 1/f^beta).
        ligaments: strength of the ligament network.
        film: looks like digitised film.
        inverted: stored as MONOCHROME1.
    """

    index: int
    patient_id: str
    patient_class: str
    density: str
    age_years: int
    thickness_mm: float
    kvp: float
    beta: float
    ligaments: float
    film: bool
    inverted: bool
    breasts: dict[str, Breast]


def draw_patient(config: PhantomConfig, index: int, patient_class: str, film: bool, inverted: bool) -> Patient:
    """Draw one patient's anatomy; the breasts are alike up to a few per cent."""
    rng = stream(config, index, "patient")
    size = float(np.clip(rng.normal(), -1.6, 1.6))
    density = str(rng.choice(list("abcd"), p=_DENSITY_PROBABILITY))
    low, high = _GLAND_SHARE[density]
    common = {
        "depth": min(96.0 + 14.0 * size, 0.72 * config.field_width_mm),
        "chord": min(188.0 + 17.0 * size + rng.normal(0, 6), 0.90 * config.field_height_mm),
        "pointedness": rng.uniform(0.78, 1.22),
        "tilt": rng.normal(0.0, 0.03),
        "gland_share": rng.uniform(low, high),
        "gland_offset": rng.uniform(0.02, 0.12),
        "axilla": rng.uniform(0.52, 0.80),
        "pectoral_width": rng.uniform(0.60, 0.90),
        "pectoral_height": rng.uniform(0.50, 0.80),
        "nipple_mlo": rng.uniform(0.54, 0.62),
    }
    breasts = {}
    for side in ("L", "R"):
        alike = {name: value * (1.0 + rng.normal(0, 0.03)) for name, value in common.items()}
        alike["tilt"] = common["tilt"] + rng.normal(0, 0.012)
        breasts[side] = Breast(**{name: float(value) for name, value in alike.items()})
    return Patient(
        index=index,
        patient_id=f"{config.patient_prefix}{index + 1:05d}",
        patient_class=patient_class,
        density=density,
        age_years=int(np.clip(rng.normal(58 - 5 * "abcd".index(density) + 6, 9), 40, 79)),
        thickness_mm=float(np.round(58.0 + 9.0 * size + rng.normal(0, 4), 1)),
        kvp=float(rng.integers(27, 33)),
        beta=float(np.clip(rng.normal(3.0, 0.12), 2.7, 3.3)),
        ligaments=float(rng.uniform(0.7, 1.25)),
        film=film,
        inverted=inverted,
        breasts=breasts,
    )
