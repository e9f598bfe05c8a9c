"""The DICOM files that results belong to: found, checked, and as the header that DICOM objects of them start from."""

from __future__ import annotations

import copy
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID

from mammo_d2.core.identifiers import hashed_identifier
from mammo_d2.data.reading.dicom.dicom_file import is_dicom, open_dicom
from mammo_d2.data.reading.dicom.tags import laterality_of, lift_frame_attributes, text_of, view_of
from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.evaluation.files.predicted_files import same_end
from mammo_d2.inference.dicom_export.result_images import ResultImage
from mammo_d2.inference.image_files import find_image_files

# What a DICOM object that refers to an image must know of it.
_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_PIXELS = (
    "Modality", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "HighBit", "PixelRepresentation", "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing",
    "PixelAspectRatio", "PatientOrientation", "ImageLaterality", "RescaleIntercept", "RescaleSlope", "RescaleType",
    "ModalityLUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction", "VOILUTSequence",
)  # fmt: skip
# Patient and study; those of the first line are in every DICOM object, if only empty.
_REQUIRED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
_PERSONAL = (
    *_REQUIRED, "IssuerOfPatientID", "PatientAge", "StudyDescription",
    "PatientIdentityRemoved", "DeidentificationMethod", "DeidentificationMethodCodeSequence",
)  # fmt: skip
DEIDENTIFICATION = "mammo_d2: patient and study removed, ID hashed, UIDs kept"
# Attributes of a LUT's item that the pixels need; its explanation is free text.
_LUT = ("LUTDescriptor", "LUTData", "ModalityLUTType")
# Units of PS3.3 C.11.1.1.2; anything else there is free text, and becomes "US", unspecified.
_UNITS = ("OD", "HU", "US", "MGML", "Z_EFF", "ED", "EDW", "HU_MOD", "PCT")
_HASH = re.compile("[0-9a-f]{16}")


@dataclass(frozen=True)
class SourceInstance:
    """An image that results belong to.

    Attributes:
        path: its file.
        header: the attributes that DICOM objects of it may hold, without pixels; patient and study as they are or
            de-identified. A frame of a multi-frame file has the header of a single image.
        frame: number of the frame, from 1, in a multi-frame file; None in others.
        laterality: "L", "R" or None.
        view: e.g. "MLO", or None.
    """

    path: str
    header: Dataset
    frame: int | None
    laterality: str | None
    view: str | None

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        return int(self.header.Rows), int(self.header.Columns)

    @property
    def frames(self) -> list[int] | None:
        """The list of frames that a reference names; None in a file of one image."""
        return None if self.frame is None else [self.frame]


class SourceFinder:
    """Finds the DICOM file of each result."""

    def __init__(
        self,
        places: Sequence[str | os.PathLike[str]],
        *,
        salt: str = "",
        keep_ids: bool = False,
        frame: int | None = None,
    ):
        """
        Args:
            places: files and folders with all sub-folders; empty: the files that the results name.
            salt: secret text in the hashes of identifiers: those in results, and those that are made.
            keep_ids: take patient and study attributes as they are in the files. Otherwise they are left out, and
                Patient ID is hashed.
            frame: which frame of multi-frame files the results are of, from 0.

        Raises:
            FileNotFoundError, ValueError: a place that is not there, or has no image.
        """
        self._places = [str(place) for place in places]
        self._salt, self._keep_ids, self._frame = salt, keep_ids, frame
        self._files = find_image_files(places) if places else []
        self._by_name: dict[str, list[str]] = {}
        for file in self._files:
            path = Path(file)
            for name in dict.fromkeys((path.name, path.stem)):
                self._by_name.setdefault(name, []).append(file)
        self._by_uid: dict[str, list[str]] | None = None

    def find(self, image: ResultImage) -> SourceInstance:
        """The instance of an image.

        A file matches by its name (as much of the path as both have), or by its SOP Instance UID. Its instance, study
        and size must be those that the results have.

        Raises:
            FileNotFoundError: no such file.
            ImageReadError: a file that is no DICOM image, lacks an identifier, or is another image than the one of the
                results.
            ValueError: several files match.
        """
        named = self._named(image)
        if not named:
            named = self._instances().get(self._wanted_uid(image), [])
        if not named:
            where = f"in {', '.join(self._places)}" if self._places else "there"
            raise FileNotFoundError(
                f"{image.name}: no such file {where}, nor one with this SOP instance; name the folder of the DICOM "
                "files that were predicted with --source"
            )
        if len(named) == 1:
            return self._checked(named[0], image)
        fitting, problem = [], None
        for file in named:
            try:
                fitting.append(self._checked(file, image))
            except (ImageReadError, OSError) as error:
                problem = problem or error
        if not fitting and problem:
            raise problem
        if len({instance.header.SOPInstanceUID for instance in fitting}) > 1:
            raise ValueError(
                f"{image.name}: may be {' or '.join(named[:3])}; name a --source folder that has one of them, or "
                "export results that hold more of the path"
            )
        return fitting[0]

    def _named(self, image: ResultImage) -> list[str]:
        path = Path(image.name)
        if not self._places:
            return [image.name] if path.is_file() else []
        found = self._by_name.get(path.name, [])
        return [file for file in found if same_end(_parts(file), _parts(image.name))] or found

    def _wanted_uid(self, image: ResultImage) -> str:
        return image.identifiers.get("SOPInstanceUID") or image.name

    def _instances(self) -> Mapping[str, list[str]]:
        """Files by SOP Instance UID and by its hash; the headers are read when this is needed first."""
        if self._by_uid is None:
            self._by_uid = {}
            for file in self._files:
                if not is_dicom(file):
                    continue
                try:
                    uid = text_of(open_dicom(file, stop_before_pixels=True), "SOPInstanceUID")
                except ImageReadError:
                    continue
                for key in {uid, hashed_identifier(uid, self._salt)}:
                    self._by_uid.setdefault(key, []).append(file)
        return self._by_uid

    def _checked(self, file: str, image: ResultImage) -> SourceInstance:
        dataset = _open(file)
        self._check_same(file, dataset, image)
        frames = int(dataset.get("NumberOfFrames") or 1)
        frame = self._frame if frames > 1 else None
        if frames > 1 and (frame is None or not 0 <= frame < frames):
            problem = f"has {frames} frames, and the results do not say which one was predicted"
            raise ImageReadError(file, problem, "name it with --frame, from 0")
        try:
            lift_frame_attributes(dataset, frame or 0)
            header = reference_header(dataset, keep_ids=self._keep_ids, salt=self._salt)
            side, (view, _) = laterality_of(dataset), view_of(dataset)
        # Damaged values raise errors of many kinds.
        except Exception as error:
            problem = f"has a damaged header ({' '.join(str(error).split())[:200]})"
            raise ImageReadError(file, problem, "take the file from the archive as it was stored") from error
        return SourceInstance(file, header, None if frame is None else frame + 1, side, view)

    def _check_same(self, file: str, dataset: Dataset, image: ResultImage) -> None:
        remedy = "name the --source folder of the files that were predicted, or predict this file"
        for keyword, wanted in image.identifiers.items():
            uid = text_of(dataset, keyword)
            if _HASH.fullmatch(wanted) and not self._salt:
                continue  # hashed with a secret that is not known
            if wanted not in (uid, hashed_identifier(uid, self._salt)):
                raise ImageReadError(file, f"is not the instance of the results: its {keyword} is another one", remedy)
        size = (int(dataset.Rows), int(dataset.Columns))
        if image.size is not None and image.size != size:
            problem = f"has (rows, columns) {size}, the image of the results has {image.size}"
            raise ImageReadError(file, problem, remedy)


def reference_header(dataset: Dataset, *, keep_ids: bool, salt: str = "") -> Dataset:
    """The attributes of an image that a DICOM object made of it may hold; nothing else of the file gets into one.

    Args:
        dataset: the image; of a multi-frame file with the frame's attributes at the top level.
        keep_ids: with patient and study attributes as they are. Otherwise these are empty, and Patient ID and name
            are the hash that ``mammo-d2 predict`` writes with the same salt. UIDs are always kept, since without them
            nothing tells which image is meant.
        salt: secret text in the hash.
    """
    header = Dataset()
    personal = _PERSONAL if keep_ids else ()
    dataset.decode()
    for keyword in (*_UIDS, *_PIXELS, *personal):
        if keyword in dataset and dataset.get(keyword) not in (None, "", []):
            header[keyword] = copy.deepcopy(dataset[keyword])
    _drop_free_text(header)
    # DICOM knows the two together only; our reader, too, takes the stored values where one is missing.
    if ("RescaleSlope" in header) != ("RescaleIntercept" in header):
        for keyword in ("RescaleSlope", "RescaleIntercept", "RescaleType"):
            header.pop(keyword, None)
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        if keyword in header and not _is_pair(header.get(keyword)):
            header.pop(keyword)
    if header.get("VOILUTFunction", "LINEAR") not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        header.pop("VOILUTFunction")
    header.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, also for the names of classes
    for keyword in _REQUIRED:
        if keyword not in header:
            setattr(header, keyword, "")
    if not keep_ids:
        patient = text_of(dataset, "PatientID")
        header.PatientID = hashed_identifier(patient, salt) if patient else ""
        header.PatientName = header.PatientID or "Anonymous"  # DCMTK reads no presentation state without a name
        header.PatientIdentityRemoved = "YES"
        header.DeidentificationMethod = DEIDENTIFICATION
    if not _usable_window(header):
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
            header.pop(keyword, None)
    return header


def _drop_free_text(header: Dataset) -> None:
    """Leave of LUTs and units what the pixels need: explanations may name somebody."""
    for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
        for item in header.get(keyword) or ():
            for element in list(item):
                if element.keyword not in _LUT:
                    del item[element.tag]
            if "ModalityLUTType" in item and item.ModalityLUTType not in _UNITS:
                item.ModalityLUTType = "US"
    if "RescaleType" in header and header.RescaleType not in _UNITS:
        header.RescaleType = "US"


def _open(file: str) -> FileDataset:
    """The header of a DICOM image that others can refer to."""
    try:
        dataset = open_dicom(file, stop_before_pixels=True)
    except ImageReadError as error:
        if is_dicom(file):
            raise
        raise ImageReadError(
            file,
            "is no DICOM file: a picture has no study, series and instance that DICOM objects could refer to",
            "export the results of the DICOM file that it was made of",
        ) from error
    missing = [keyword for keyword in _UIDS if not text_of(dataset, keyword)]
    if missing:
        problem = f"has no {', '.join(missing)}, so that nothing can refer to it"
        raise ImageReadError(file, problem, "take the file from the archive as it was stored")
    kind = text_of(dataset, "SOPClassUID")
    if not UID(kind).keyword:
        problem = f"has the SOP Class UID {kind[:70]!r}, which is none of DICOM's"
        raise ImageReadError(file, problem, "take the file from the archive as it was stored")
    if not dataset.get("Rows") or not dataset.get("Columns"):
        raise ImageReadError(file, "DICOM object without an image (no Rows and Columns)", "name the image itself")
    if int(dataset.get("SamplesPerPixel") or 1) != 1:
        raise ImageReadError(file, "is a colour image", "use the mammogram itself")
    return dataset


def _usable_window(header: Dataset) -> bool:
    centers, widths = (_numbers(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth"))
    return bool(widths) and len(centers) == len(widths) and min(widths) >= 1


def _numbers(value: Any) -> list[float]:
    if value is None or value == "":
        return []
    try:
        many = isinstance(value, Iterable) and not isinstance(value, (str, bytes))
        return [float(number) for number in (value if many else [value])]
    except (TypeError, ValueError):
        return []


def _is_pair(value: Any) -> bool:
    """Whether a value is two numbers above 0."""
    numbers = _numbers(value)
    return len(numbers) == 2 and all(0 < number < math.inf for number in numbers)


def _parts(name: str) -> Sequence[str]:
    """Path without the ending, so that a result may leave it out."""
    return Path(name).with_suffix("").parts
