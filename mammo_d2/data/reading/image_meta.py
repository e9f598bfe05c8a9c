"""What is known about an image apart from its pixels, and the error of an image that cannot be read."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any

#: Largest pixel value (``ImageMeta.max_value``) of files that use all of their 8 or 16 bits.
FULL_SCALE_8_BIT = 255.0
FULL_SCALE_16_BIT = 65535.0
# Depths of detectors and exports: a 16-bit file whose pixels fit into one of these probably has no more.
_USUAL_DEPTHS = (10, 12, 14)


#: Images that are no ordinary mammograms, and what they are.
SPECIAL_KINDS = {
    "implant": "breasts with an implant, also displaced",
    "spot": "spot compression views",
    "magnification": "magnified views",
    "specimen": "images of a specimen",
    "synthetic": "2D images made from tomosynthesis",
    "tomosynthesis": "slices, projections and volumes of tomosynthesis",
    "low-energy": "low energy images of contrast-enhanced mammography",
    "recombined": "recombined and high energy images of contrast-enhanced mammography",
    "scout": "scout and stereotactic images of biopsies",
    "phantom": "quality control images of phantoms",
    "secondary-capture": "copies of screens and scans of prints",
}


class ImageReadError(ValueError):
    """An image file that cannot be read; the message names the file and what to do.

    Args:
        path: the file.
        problem: what is wrong with it.
        remedy: what to do about it.
    """

    def __init__(self, path: str | os.PathLike[str], problem: str, remedy: str) -> None:
        super().__init__(f"{os.fspath(path)}: {problem}; {remedy}")
        self.path = os.fspath(path)
        self.problem = problem
        self.remedy = remedy

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickle (between processes) would call __init__ with the message alone.
        return type(self), (self.path, self.problem, self.remedy)


def depth_warnings(brightest: float, bits: int, remedy: str) -> tuple[str, ...]:
    """A warning where an image uses a quarter of a 16-bit file's range or less, as 12-bit values do.

    Args:
        brightest: largest stored value of the image.
        bits: its depth by the file's own description.
        remedy: what to do about it; ``{bits}`` stands for the depth that it seems to have.
    """
    depth = next((depth for depth in _USUAL_DEPTHS if brightest < 2**depth), None)
    if bits != 16 or depth is None:
        return ()
    problem = f"pixels up to {brightest:.0f} in a file of 16 bits: the image is dark; if its pixels have fewer bits, "
    return (problem + remedy.format(bits=depth),)


@dataclass(frozen=True)
class ReadOptions:
    """How a file becomes pixels; part of a prepared data set's record.

    Attributes:
        voi: which DICOM VOI transformation is applied: "none", "window", "lut" (the file's VOI LUT Sequence) or "auto"
            (the LUT sequence where there is one, else the window, else none: the order of the DICOM standard).
        voi_by_vendor: (part of the Manufacturer, voi) pairs that override ``voi``; compared without case, first match
            wins.
        voi_index: which of several windows or LUTs, from 0.
        frame: which frame of a multi-frame file, from 0; None: such a file is an error.
        for_processing: read images marked FOR PROCESSING (raw detector values) too, rather than refuse them.
        bits: of 16-bit PNG, TIFF and PGM files: how many are used, e.g. 12 of pixels up to 4095; 0: all.
    """

    voi: str = "auto"
    voi_by_vendor: tuple[tuple[str, str], ...] = ()
    voi_index: int = 0
    frame: int | None = None
    for_processing: bool = False
    bits: int = 0

    def __post_init__(self) -> None:
        if self.bits and not 8 < self.bits <= 16:
            raise ValueError(f"bits {self.bits} must be 9 to 16, or 0 (all)")
        for value in (self.voi, *(v for _, v in self.voi_by_vendor)):
            if value not in ("auto", "none", "window", "lut"):
                raise ValueError(f"voi {value!r} must be one of auto, none, window, lut")

    def voi_for(self, manufacturer: str) -> str:
        """The VOI choice for a file of this manufacturer."""
        for part, voi in self.voi_by_vendor:
            if part.lower() in manufacturer.lower():
                return voi
        return self.voi


@dataclass(frozen=True)
class ImageMeta:
    """Facts about an image. Unknown values are None (or "" for text).

    Attributes:
        path: the file.
        format: "dicom", "png", "tiff", "pgm", "jpeg" or "ljpeg" (PVRG's lossless JPEG).
        height: rows.
        width: columns.
        bits_stored: meaningful bits of the stored values.
        max_value: full-scale value of the returned pixels: 255, 4095, 65535, ...; background is 0.
        photometric: DICOM Photometric Interpretation as stored; the returned pixels are always bright on dark.
        voi: the VOI transformation that was applied ("none", "window", "lut").
        pixel_spacing: (row, column) in mm.
        pixel_spacing_source: the DICOM keyword it was taken from.
        laterality: "L" or "R".
        view: "CC", "MLO", ...
        view_modifiers: e.g. ("Magnification",): the meanings of DICOM's view modifier codes.
        patient_id, exam_id, sop_instance_uid: identifiers as stored. These are protected health information.
        modality, manufacturer, presentation_intent, transfer_syntax, sop_class: DICOM values in words.
        chest_wall: "left" or "right": side of the image at which Patient Orientation puts the chest wall.
        kinds: special kinds of image, of ``SPECIAL_KINDS``.
        study_date: as stored, YYYYMMDD; orders a patient's exams and is never written. Protected health information.
        unusual: what makes the image an unusual mammogram or none, e.g. an implant; each is among the warnings, too.
        warnings: things a person should know, e.g. an unusable window.
    """

    path: str
    format: str
    height: int
    width: int
    bits_stored: int
    max_value: float
    photometric: str = "MONOCHROME2"
    voi: str = "none"
    pixel_spacing: tuple[float, float] | None = None
    pixel_spacing_source: str | None = None
    laterality: str | None = None
    view: str | None = None
    view_modifiers: tuple[str, ...] = ()
    patient_id: str | None = None
    exam_id: str | None = None
    sop_instance_uid: str | None = None
    modality: str = ""
    manufacturer: str = ""
    presentation_intent: str = ""
    transfer_syntax: str = ""
    sop_class: str = ""
    chest_wall: str | None = None
    kinds: tuple[str, ...] = ()
    study_date: str | None = None
    unusual: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain types."""
        return asdict(self)
