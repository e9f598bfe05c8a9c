"""A small exam of two DICOM files with results, and the checks of other programs."""

import shutil
import subprocess
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

from mammo_d2.inference.dicom_export.coded_findings import ExportFacts
from mammo_d2.inference.dicom_export.result_images import ResultImage
from mammo_d2.inference.dicom_export.source_instances import SourceFinder
from tests.data.dicom_files import write_dicom

FACTS = ExportFacts("Detector", "2.1", datetime(2026, 1, 2, 3, 4, 5), "0123456789abcdef" * 4)
SIZE = (300, 200)
# Fractions that float32 has and that it has not, and the whole image.
BOXES = np.array([[10.25, 20.1, 50.123456, 80.75], [0, 0, 200, 300]])


def write_view(folder: Path, name: str = "L_CC.dcm", number: int = 1, **tags) -> Path:
    """A mammogram of ``SIZE`` with all identifiers; ``tags`` as of ``write_dicom``, None leaves one out."""
    pixels = np.random.default_rng(number).integers(0, 4096, SIZE).astype(np.uint16)
    facts = {
        "SOPInstanceUID": f"1.2.3.4.5.{number}", "SeriesInstanceUID": f"1.2.3.4.{number}", "ImageLaterality": "L",
        "ViewPosition": "CC", "PatientOrientation": ["A", "R"], "ImagerPixelSpacing": [0.1, 0.2],
        "WindowCenter": 2048, "WindowWidth": 4096, "PatientBirthDate": "19500101", "PatientSex": "F",
        "StudyDate": "20200102", "StudyTime": "101112", "AccessionNumber": "A17", "StudyID": "S1",
        "InstitutionName": "St. Elsewhere", "ImageComments": "for Dr. Smith",
    }  # fmt: skip
    tags = {keyword: value for keyword, value in (facts | tags).items() if value is not None or keyword not in facts}
    return write_dicom(folder / name, pixels, **tags)


def result(name: str | Path, number: int = 1, boxes=BOXES, **more) -> ResultImage:
    """Results of a file: boxes of the classes malignant, benign, malignant, ..."""
    boxes = np.array(boxes, dtype=float).reshape(-1, 4)
    labels = tuple(("malignant", "benign")[row % 2] for row in range(len(boxes)))
    scores = np.array([0.9321738 / (row + 1) for row in range(len(boxes))])
    facts = {"size": SIZE, "image_scores": {"malignant": 0.75}, "identifiers": {}} | more
    return ResultImage(number, str(name), boxes=boxes, scores=scores, labels=labels, **facts)


def exam(folder: Path, **options):
    """Pairs of results and sources: a view with two boxes, and one without."""
    files = [write_view(folder), write_view(folder, "R_MLO.dcm", 2, ImageLaterality="R", ViewPosition="MLO")]
    finder = SourceFinder([], **options)
    images = [result(files[0]), result(files[1], 2, boxes=[])]
    return [(image, finder.find(image)) for image in images]


def check_with_dciodvfy(path: Path) -> None:
    """No error by the validator of dicom3tools, where it is installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy (dicom3tools) is not installed")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    lines = (done.stdout + done.stderr).splitlines()
    assert [line for line in lines if line.startswith("Error")] == []
    assert done.returncode == 0


def check_with_dsrdump(path: Path) -> str:
    """DCMTK reads the report by the rules of its class; what it prints."""
    program = shutil.which("dsrdump")
    if program is None:
        pytest.skip("dsrdump (dcmtk) is not installed")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stderr
    assert not any(line.startswith("E:") for line in done.stderr.splitlines())
    return done.stdout
