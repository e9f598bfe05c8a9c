"""What a DICOM file says about itself that makes it an unusual mammogram, or none: an implant, a phantom.

Image Type has the words of the standard and of vendors; those for contrast-enhanced images (LOW_ENERGY, RECOMBINED) are
from public descriptions and not checked against files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from pydicom.dataset import Dataset

from mammo_d2.data.reading.dicom.tags import lateralities_of, text_of

_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
# Contact views have factors up to about 1.1 (the breast's own thickness), magnification stands 1.5 to 2.
_MAGNIFIED = 1.3
# Values of Image Type of images made from tomosynthesis, and of images for stereotactic biopsy.
_SYNTHETIC = {"GENERATED_2D", "TOMO_2D", "SYNTHESIZED", "SYNTHETIC", "C-VIEW", "CVIEW"}
_CONVERSIONS = {"DV", "DI", "DF", "WSD", "SD", "SI", "DRW", "SYN"}
_SLICES = {"TOMOSYNTHESIS", "TOMO", "TOMO_SLICE", "TOMO_PROJ"}
# Breast Tomosynthesis Image Storage, Breast Projection X-Ray Image Storage for presentation and for processing.
_TOMOSYNTHESIS_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.13.1.{number}" for number in (3, 4, 5))
_LOW_ENERGY, _RECOMBINED = {"LOW_ENERGY"}, {"RECOMBINED", "SUBTRACTION", "HIGH_ENERGY"}
# View modifiers and views, in lower case, that make an image a special one.
_MODIFIED = {
    "implant displaced": "implant", "spot compression": "spot", "magnification": "magnification",
    "specimen": "specimen",
}  # fmt: skip
_SCOUTS = {"SCOUT", "LOCALIZER", "STEREO", "STEREO_SCOUT", "STEREO_PLUS", "STEREO_MINUS"}


def unusual_facts(dataset: Dataset) -> tuple[str, ...]:
    """Short statements, each naming its tag; empty for an ordinary mammogram. Nothing is refused for them."""
    facts: list[str] = []
    if _is_yes(dataset, "BreastImplantPresent"):
        facts.append("implant (Breast Implant Present YES)")
    factor = _number(dataset, "EstimatedRadiographicMagnificationFactor")
    if factor >= _MAGNIFIED:
        facts.append(f"magnification (Estimated Radiographic Magnification Factor {factor:g})")
    image_type = _image_type(dataset)
    # Only values known here are repeated: free text may hold identifiers.
    if synthetic := sorted(_SYNTHETIC & image_type):
        facts.append(f"synthetic 2D image from tomosynthesis (Image Type {synthetic[0]})")
    if scout := sorted(_SCOUTS & image_type):
        facts.append(f"scout or stereotactic image (Image Type {scout[0]})")
    if _is_phantom(dataset, image_type):
        facts.append("quality control image of a phantom (Quality Control Image, Body Part Examined or Image Type)")
    conversion = text_of(dataset, "ConversionType").upper()
    # DF: a film that was scanned, which is a mammogram.
    if text_of(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE) and conversion != "DF":
        facts.append(f"secondary capture (Conversion Type {conversion if conversion in _CONVERSIONS else 'unknown'})")
    if _is_yes(dataset, "BurnedInAnnotation"):
        facts.append("text in the pixels, perhaps a name (Burned In Annotation YES)")
    sides = lateralities_of(dataset)
    if len(set(sides.values())) > 1:
        facts.append("laterality contradicts itself (" + ", ".join(f"{k} {v}" for k, v in sides.items()) + ")")
    return tuple(facts)


def image_kinds(dataset: Dataset, view: str | None, modifiers: Iterable[str]) -> tuple[str, ...]:
    """Which special kinds of image a file is, of ``SPECIAL_KINDS``; empty for an ordinary mammogram.

    Args:
        dataset: the file.
        view: its view.
        modifiers: its view modifiers.
    """
    image_type = _image_type(dataset)
    words = {_MODIFIED.get(word.lower(), "") for word in (*modifiers, view or "")}
    frames = text_of(dataset, "NumberOfFrames")
    synthetic = bool(_SYNTHETIC & image_type)
    volume = (
        (frames.isdigit() and int(frames) > 1)
        or text_of(dataset, "SOPClassUID") in _TOMOSYNTHESIS_CLASSES
        or bool(_SLICES & image_type)
    )
    secondary = text_of(dataset, "SOPClassUID").startswith(_SECONDARY_CAPTURE)
    found = {
        "implant": _is_yes(dataset, "BreastImplantPresent") or "implant" in words,
        "spot": "spot" in words,
        "magnification": _number(dataset, "EstimatedRadiographicMagnificationFactor") >= _MAGNIFIED
        or "magnification" in words,
        "specimen": "specimen" in words,
        "synthetic": synthetic,
        "tomosynthesis": volume and not synthetic,
        "scout": bool(_SCOUTS & image_type),
        "phantom": _is_phantom(dataset, image_type),
        "secondary-capture": secondary and text_of(dataset, "ConversionType").upper() != "DF",
        "low-energy": bool(_LOW_ENERGY & image_type),
        "recombined": bool(_RECOMBINED & image_type),
    }
    return tuple(kind for kind, is_one in found.items() if is_one)


def _is_phantom(dataset: Dataset, image_type: set[str]) -> bool:
    body_part = text_of(dataset, "BodyPartExamined").upper()
    return _is_yes(dataset, "QualityControlImage") or "PHANTOM" in body_part or "QC" in image_type


def _is_yes(dataset: Dataset, keyword: str) -> bool:
    return text_of(dataset, keyword).upper() == "YES"


def _number(dataset: Dataset, keyword: str) -> float:
    """A tag's value; NaN where it is missing or no number."""
    try:
        return float(text_of(dataset, keyword) or "nan")
    except ValueError:
        return math.nan


def _image_type(dataset: Dataset) -> set[str]:
    value = dataset.get("ImageType") or []
    return {str(v).strip().upper() for v in ([value] if isinstance(value, str) else value)}
