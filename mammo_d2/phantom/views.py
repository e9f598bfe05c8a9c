"""One phantom image with its truth, and the findings in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mammo_d2.phantom.breast.anatomy import Patient

SIDES = ("L", "R")
PHANTOM_VIEWS = ("CC", "MLO")


@dataclass
class PhantomFinding:
    """A finding (or look-alike) in one view; coordinates are pixels of that view's image.

    Attributes:
        lesion_id: shared by the views that show the lesion.
        kind: "mass", "calcification", or "distractor" for a look-alike.
        look: what it looks like: "malignant", "benign", "intermediate", "island" or "crossing".
        pathology: "malignant" or "benign"; "none" for a look-alike.
        decided_by: "look" or "surroundings" (see ``PhantomConfig.context_malignancy``).
        mask: (rows, cols) bool: the body with its margin. Spicules and strands are not part of it.
        bbox: x, y, width, height of the mask's extent.
        centre: x, y.
        radius_mm: mean radius of the body.
        contrast: drawn blob strength, fraction of full scale.
    """

    lesion_id: str
    kind: str
    look: str
    pathology: str
    decided_by: str
    mask: np.ndarray
    bbox: tuple[int, int, int, int]
    centre: tuple[float, float]
    radius_mm: float
    contrast: float


@dataclass
class PhantomView:
    """One image with its truth.

    Attributes:
        patient: anatomy and technical facts of the patient.
        patient_id, exam_id, laterality, view: identity.
        image: (rows, cols) uint16 0..4095, breast bright on dark; chest wall left for L, right for R.
        photometric: how the file stores it; for "MONOCHROME1" the stored value is 4095 minus ``image``.
        pixel_spacing: (row, col) in mm.
        findings: annotated findings.
        distractors: look-alikes, not annotated.
        labels: {"benign": 0|1, "malignant": 0|1} of this image.
        breast_mask: (rows, cols) bool, with nipple and pectoral muscle.
        breast_box: x, y, width, height of the mask's extent.
        pectoral: [[x, y], ...] polygon in pixels inside the image, or None in CC.
        nipple: x, y.
    """

    patient: Patient
    patient_id: str
    exam_id: str
    laterality: str
    view: str
    image: np.ndarray
    photometric: str
    pixel_spacing: tuple[float, float]
    findings: list[PhantomFinding]
    distractors: list[PhantomFinding]
    labels: dict[str, int]
    breast_mask: np.ndarray
    breast_box: tuple[int, int, int, int]
    pectoral: list[list[float]] | None
    nipple: tuple[float, float]
