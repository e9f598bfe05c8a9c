"""A phantom view as a DICOM file: Digital Mammography X-Ray Image, For Presentation, no personal data."""

from __future__ import annotations

import hashlib
import io
import json

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from mammo_d2.phantom.breast.tissue import MAX_VALUE
from mammo_d2.phantom.settings import PhantomConfig
from mammo_d2.phantom.views import PhantomView

_MAMMOGRAPHY_FOR_PRESENTATION = UID("1.2.840.10008.5.1.4.1.1.1.2")
_DATE = "20000101"  # a fixed date
# SNOMED CT codes of context group 4014 and of the breast.
_VIEW_CODES = {"CC": ("399162004", "cranio-caudal"), "MLO": ("399368009", "medio-lateral oblique")}
# Direction of the rows and of the columns (PS3.3 C.7.6.1.1.1); a left breast's chest wall is at the left.
_ORIENTATION = {("L", "CC"): ["A", "R"], ("R", "CC"): ["P", "L"], ("L", "MLO"): ["A", "F"], ("R", "MLO"): ["P", "F"]}


def dicom_uid(config: PhantomConfig, *names: str) -> UID:
    """A UID under 2.25 that depends on the settings and on the names of what it stands for."""
    text = json.dumps([config.to_dict(), *names], sort_keys=True)
    digest = hashlib.sha256(text.encode()).digest()
    return UID(f"2.25.{int.from_bytes(digest[:16], 'big')}")


def stored_pixels(view: PhantomView) -> np.ndarray:
    """The values as the file stores them: MONOCHROME1 has the breast dark on bright. uint16."""
    return (MAX_VALUE - view.image).astype(np.uint16) if view.photometric == "MONOCHROME1" else view.image


def dicom_bytes(config: PhantomConfig, view: PhantomView) -> bytes:
    """The complete DICOM file of a view; the same bytes for the same settings and index."""
    inverted = view.photometric == "MONOCHROME1"
    rows, cols = view.image.shape
    patient = view.patient
    study = dicom_uid(config, view.patient_id, "study")
    number = 1 + "LR".index(view.laterality) * 2 + ("CC", "MLO").index(view.view)

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = _MAMMOGRAPHY_FOR_PRESENTATION
    meta.MediaStorageSOPInstanceUID = dicom_uid(config, view.patient_id, view.laterality, view.view)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian

    ds = Dataset()
    ds.file_meta = meta
    ds.ImageType = ["DERIVED", "PRIMARY"]
    ds.SOPClassUID = meta.MediaStorageSOPClassUID
    ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    ds.StudyDate = ds.SeriesDate = ds.ContentDate = ds.AcquisitionDate = _DATE
    ds.StudyTime = ds.SeriesTime = ds.ContentTime = ds.AcquisitionTime = "120000"
    ds.AccessionNumber = view.exam_id
    ds.Modality = "MG"
    ds.PresentationIntentType = "FOR PRESENTATION"
    ds.Manufacturer = "mammo_d2 phantom"
    ds.ManufacturerModelName = "film" if patient.film else "digital"
    ds.ReferringPhysicianName = ""
    ds.SeriesDescription = f"{view.laterality} {view.view}"
    ds.PatientName = f"PHANTOM^{view.patient_id}"
    ds.PatientID = view.patient_id
    ds.PatientBirthDate = ""
    ds.PatientSex = "F"
    ds.PatientAge = f"{patient.age_years:03d}Y"
    ds.PatientIdentityRemoved = "YES"
    ds.DeidentificationMethod = "synthetic image"
    ds.BodyPartExamined = "BREAST"
    ds.KVP = patient.kvp
    ds.BodyPartThickness = patient.thickness_mm
    ds.ImagerPixelSpacing = [round(v, 8) for v in view.pixel_spacing]
    ds.PositionerType = "MAMMOGRAPHIC"
    ds.OrganExposed = "BREAST"
    ds.DetectorType = "FILM" if patient.film else "DIRECT"
    ds.ViewPosition = view.view
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = dicom_uid(config, view.patient_id, view.laterality, view.view, "series")
    ds.StudyID = "1"
    ds.SeriesNumber = number
    ds.InstanceNumber = 1
    ds.PatientOrientation = _ORIENTATION[view.laterality, view.view]
    ds.ImageLaterality = view.laterality
    ds.ImagesInAcquisition = 1
    ds.AnatomicRegionSequence = [_code("76752008", "Breast")]
    code = _code(*_VIEW_CODES[view.view])
    code.ViewModifierCodeSequence = []
    ds.ViewCodeSequence = [code]
    ds.AcquisitionContextSequence = []
    ds.BreastImplantPresent = "NO"
    ds.BurnedInAnnotation = "NO"
    ds.LossyImageCompression = "00"

    ds.SamplesPerPixel = 1
    ds.PhotometricInterpretation = view.photometric
    ds.Rows, ds.Columns = rows, cols
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 12, 11
    ds.PixelRepresentation = 0
    ds.PixelIntensityRelationship = "LOG"
    ds.PixelIntensityRelationshipSign = 1 if inverted else -1
    ds.RescaleIntercept, ds.RescaleSlope, ds.RescaleType = 0, 1, "US"
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
    ds.WindowCenter = (MAX_VALUE + 1) / 2
    ds.WindowWidth = MAX_VALUE + 1
    ds.WindowCenterWidthExplanation = "FULL RANGE"
    ds.PixelData = stored_pixels(view).astype("<u2", copy=False).tobytes()

    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _code(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", meaning
    return item
