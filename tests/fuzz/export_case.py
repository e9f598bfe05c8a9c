"""The kind "export" of ``cases.py``: results and their DICOM file, one of them mutated, for ``export-dicom``."""

from __future__ import annotations

import json
import random
import shutil
from datetime import datetime
from pathlib import Path

import numpy as np
import pydicom

from mammo_d2.inference.dicom_export.coded_findings import ExportFacts
from mammo_d2.inference.dicom_export.exported_objects import export_objects
from mammo_d2.inference.dicom_export.result_images import read_result_images
from mammo_d2.inference.dicom_export.source_instances import SourceFinder
from tests.data.dicom_files import write_dicom
from tests.fuzz.mutations import NUMBERS, mutated_bytes, mutated_json

FACTS = ExportFacts("Detector", "2.1", datetime(2026, 1, 2, 3, 4, 5), "0123456789abcdef" * 4)
TAGS = (
    "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsStored", "NumberOfFrames", "WindowCenter",
    "WindowWidth", "VOILUTFunction", "RescaleSlope", "RescaleIntercept", "RescaleType", "PixelSpacing",
    "ImagerPixelSpacing", "PixelAspectRatio", "ImageLaterality", "ViewPosition", "PatientOrientation", "PatientID",
    "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
)  # fmt: skip
VALUES = (None, "", "x", "nan", "-1", "1e400", "1\\2\\3", "MONOCHROME1", "RGB", "ä", 0.0, -1.5, 1e300, [], [0, 0])
COCO = {
    "images": [{"id": 1, "file_name": "in/case.dcm", "height": 24, "width": 20, "image_scores": {"malignant": 0.5}}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [5, 5.5, 10, 10], "score": 0.75},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 20, 24], "score": 0.25},
    ],
    "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
    "info": {"description": "predictions of x by mammo_d2 0.1, research software"},
}


def _write(path: Path) -> Path:
    pixels = (np.add.outer(np.arange(24), np.arange(20)) * 90).astype(np.uint16)
    return write_dicom(
        path, pixels, SOPInstanceUID="1.2.3.4.5", SeriesInstanceUID="1.2.3.4", ImageLaterality="L", ViewPosition="CC",
        PatientOrientation=["A", "R"], ImagerPixelSpacing=[0.1, 0.2], WindowCenter=2048, WindowWidth=4096,
        PatientName="Doe^Jane", PatientBirthDate="19500101", StudyDate="20200102", StudyTime="101112", StudyID="S1",
    )  # fmt: skip


def export(folder: Path, random_: random.Random) -> str | None:
    """Results with changed values, or their DICOM file with changed bytes or tags; all kinds of objects are written."""
    shutil.rmtree(folder / "in", ignore_errors=True)
    shutil.rmtree(folder / "out", ignore_errors=True)
    for name in ("in", "out"):
        (folder / name).mkdir()
    path, results = _write(folder / "in" / "case.dcm"), folder / "case.json"
    results.write_text(json.dumps(COCO))
    chance = random_.random()
    if chance < 0.5:
        results.write_bytes(mutated_json(COCO, random_))
    elif chance < 0.65:
        path.write_bytes(mutated_bytes(path.read_bytes(), random_, header=1000))
    else:
        dataset = pydicom.dcmread(path)
        for name in random_.sample(TAGS, random_.randint(1, 3)):
            try:
                setattr(dataset, name, random_.choice(VALUES + NUMBERS))
                dataset.save_as(path)
            except Exception:  # pydicom cannot write every value
                dataset = pydicom.dcmread(path)
    found = read_result_images(results)
    finder = SourceFinder([folder / "in"], salt="pepper", keep_ids=random_.random() < 0.5)
    outcome = export_objects(found.images, finder, FACTS, folder / "out", ("sr", "cad", "gsps"), strict=True)
    written = sorted((folder / "out").glob("*.dcm"))
    if len(written) != sum(outcome.written.values()):
        return f"{len(written)} files, {dict(outcome.written)}"
    for file in written:
        dataset = pydicom.dcmread(file)
        if not dataset.SOPInstanceUID or not dataset.StudyInstanceUID:
            return f"{file.name} has no UID"
    return None
