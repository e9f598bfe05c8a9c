"""Phantom mammograms: synthetic four-view screening exams as DICOM, with truth. Seeded and reproducible."""

from mammo_d2.phantom.patient import generate_patient
from mammo_d2.phantom.settings import PATIENT_CLASSES, PhantomConfig, PhantomConfigError
from mammo_d2.phantom.views import PhantomFinding, PhantomView
from mammo_d2.phantom.writer import DICOM_FOLDER, TRUTH_FILE, write_phantom

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
