"""Codes, and what all DICOM objects of an export have in common: who made them, when, and their identifiers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid

from mammo_d2 import __version__
from mammo_d2.core.files import atomic_write
from mammo_d2.inference.dicom_export.source_instances import SourceInstance

MANUFACTURER = "mammo_d2"
RESEARCH = "Research software, no medical device"
#: Coding scheme of the classes of a detector: their names.
CLASS_SCHEME = "99MAMMOD2"
CLASS_OF_FINDING = Code("class", CLASS_SCHEME, "Class of the detector")
# Parts of class names, and what they are called in TID 1500 and in TID 4000 (context group 6014).
_KINDS = (
    ("calc", codes.SCT.CalcificationCluster, codes.SCT.CalcificationCluster),
    (
        "distortion",
        codes.SCT.ArchitecturalDistortionOfBreast,
        codes.SCT.ArchitecturalDistortionOfBreast,
    ),
    ("mass", codes.SCT.Mass, codes.SCT.MammographyBreastDensity),
    ("", codes.SCT.Lesion, codes.SCT.MammographyBreastDensity),
)


@dataclass(frozen=True)
class ExportFacts:
    """What all objects of an export have in common.

    Attributes:
        model: name of what predicted.
        version: of it.
        time: when the results were made.
        digest: of the results and the options; objects of the same results have the same identifiers.
    """

    model: str
    version: str
    time: datetime
    digest: str

    def uid(self, *parts: object) -> str:
        """An identifier of an object: the same for the same results."""
        return generate_uid(entropy_srcs=[self.digest, self.model, self.version, *map(str, parts)])

    @property
    def device_uid(self) -> str:
        """Of the model as a device."""
        return generate_uid(entropy_srcs=[MANUFACTURER, self.model, self.version])

    def equipment(self, kind: str, number: int, source: Dataset) -> dict[str, Any]:
        """Arguments that all classes of highdicom take.

        Args:
            kind: of the object; one series per study holds all of a kind.
            number: of the instance.
            source: header of the (first) image.
        """
        series = 9000 + ("sr", "cad", "seg", "gsps").index(kind)
        return {
            "series_instance_uid": self.uid("series", kind, source.StudyInstanceUID),
            "series_number": series,
            "sop_instance_uid": self.uid("instance", kind, source.SOPInstanceUID),
            "instance_number": number,
            "manufacturer": MANUFACTURER,
            "manufacturer_model_name": self.model[:64],
            "software_versions": [self.version[:64], f"mammo_d2 {__version__}"],
            "device_serial_number": self.digest[:16],
        }


def finding_code(label: str) -> Code:
    """What a box of a class is in a measurement report: calcifications, architectural distortion, mass, or lesion."""
    return next(code for part, code, _ in _KINDS if part in label.lower())


def cad_finding_code(label: str) -> Code:
    """The same in a mammography CAD report, which has no code for lesions of unknown kind: they are densities."""
    return next(code for part, _, code in _KINDS if part in label.lower())


def class_code(label: str) -> Code:
    """The class itself, by its name."""
    value = re.sub(r"[^A-Za-z0-9_-]+", "_", label)[:16] or "class"
    return Code(value, CLASS_SCHEME, label[:64])


def percent_of(score: float) -> float:
    """A score in [0, 1] as the percentage that DICOM has, of at most 16 characters."""
    return round(100 * score, 10)


def corners(box: Sequence[float]) -> list[tuple[float, float]]:
    """The closed outline of an XYXY box as (column, row) points.

    DICOM's coordinates in structured reports (PS3.3 C.18.6) and in presentation states (C.10.5, units PIXEL) are those
    of this package: 0\\0 is the outer corner of the top left pixel, Columns\\Rows that of the last one.
    """
    x1, y1, x2, y2 = (float(value) for value in box)
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1)]


def refer_to_frame(dataset: Dataset, source: SourceInstance) -> None:
    """Name the frame wherever an object refers to a multi-frame image, in place."""
    if source.frame is None:
        return
    for element in dataset:
        if element.VR != "SQ":
            continue
        for item in element.value:
            referred = element.keyword in ("ReferencedImageSequence", "SourceImageSequence")
            if referred and item.get("ReferencedSOPInstanceUID") == source.header.SOPInstanceUID:
                item.ReferencedFrameNumber = source.frame
            refer_to_frame(item, source)


def write_object(path: str | os.PathLike[str], dataset: Any, facts: ExportFacts, source: Dataset, title: str) -> Path:
    """Write a DICOM object, with the time of the results in place of that of the export.

    Args:
        path: the file.
        dataset: of highdicom, or a ``FileDataset``.
        facts: of the export.
        source: header of the (first) image.
        title: what it is; "research software" is added to it in Series Description.
    """
    for keyword in ("Content", "InstanceCreation", "PresentationCreation", "Series"):
        if f"{keyword}Date" in dataset or keyword == "InstanceCreation":
            setattr(dataset, f"{keyword}Date", facts.time.strftime("%Y%m%d"))
            setattr(dataset, f"{keyword}Time", facts.time.strftime("%H%M%S"))
    for item in dataset.get("ContributingEquipmentSequence") or []:
        item.ContributionDateTime = facts.time.strftime("%Y%m%d%H%M%S")
    dataset.SeriesDescription = f"{title} ({RESEARCH})"[:64]
    for keyword in ("PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence"):
        if keyword in source:
            dataset[keyword] = source[keyword]
    with atomic_write(path) as stream:
        dataset.save_as(stream, enforce_file_format=True)
    return Path(path)
