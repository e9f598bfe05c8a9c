"""Phantom mammograms: synthetic four-view screening exams as DICOM, with truth. Seeded and reproducible."""

from .config import PATIENT_CLASSES, PhantomConfig, PhantomConfigError
from .patient import PhantomFinding, PhantomView, generate_patient
from .writer import DICOM_FOLDER, TRUTH_FILE, write_phantom

__all__ = [
    "DICOM_FOLDER",
    "PATIENT_CLASSES",
    "TRUTH_FILE",
    "PhantomConfig",
    "PhantomConfigError",
    "PhantomFinding",
    "PhantomView",
    "generate_patient",
    "write_phantom",
]
