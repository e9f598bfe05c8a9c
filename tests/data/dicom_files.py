"""Small DICOM files for tests."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MAMMOGRAPHY = "1.2.840.10008.5.1.4.1.1.1.2"


def make_dataset(pixels: np.ndarray, **tags) -> FileDataset:
    """A MONOCHROME2 mammogram of 12 bits with these stored values; ``tags`` are set on top, None deletes one."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MAMMOGRAPHY
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance", str(sorted(map(str, tags.items())))])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID = MAMMOGRAPHY
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = "1.2.3.4"
    dataset.PatientID = "P1"
    dataset.PatientName = "Doe^Jane"
    dataset.Modality = "MG"
    dataset.Manufacturer = "ACME Medical"
    dataset.PresentationIntentType = "FOR PRESENTATION"
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.shape[-2:]
    dataset.BitsAllocated = 8 * pixels.dtype.itemsize
    dataset.BitsStored = min(12, dataset.BitsAllocated)
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in tags.items():
        if name == "BitsStored":
            dataset.HighBit = value - 1
        if value is None:
            delattr(dataset, name)
        else:
            setattr(dataset, name, value)
    return dataset


def write_dicom(path: Path, pixels: np.ndarray, *, encoded: bytes | None = None, syntax=None, **tags) -> Path:
    """Write ``make_dataset``'s file; ``encoded`` is a compressed frame in the transfer syntax ``syntax``."""
    dataset = make_dataset(pixels, **tags)
    if encoded is not None:
        dataset.PixelData = encapsulate([encoded])
        dataset["PixelData"].VR = "OB"
    if syntax is not None:
        dataset.file_meta.TransferSyntaxUID = syntax
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def code(value: str, scheme: str = "SCT", meaning: str = "", **more) -> Dataset:
    """A code sequence item."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    for name, content in more.items():
        setattr(item, name, content)
    return item
