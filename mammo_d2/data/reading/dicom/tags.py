"""From DICOM tags to what this package knows about an image: laterality, view, spacing, identifiers, orientation."""

from __future__ import annotations

import math
from typing import Any

from pydicom.dataset import Dataset

#: Breast imaging views (DICOM context group 4014): code value -> this package's name. Old files use the SNOMED-RT
# values ("SRT", "SNM3" or "99SDM"), new ones SNOMED-CT ("SCT").
VIEW_OF_CODE = {
    "399162004": "CC", "R-10242": "CC",
    "399368009": "MLO", "R-10226": "MLO",
    "399260004": "ML", "R-10224": "ML",
    "399352003": "LM", "R-10228": "LM",
    "399099002": "LMO", "R-10230": "LMO",
    "399192008": "XCCL", "R-1024A": "XCCL",
    "399101009": "XCCM", "R-1024B": "XCCM",
    "399196006": "FB", "R-10244": "FB",
    "399188001": "SIO", "R-102D0": "SIO",
    "441555000": "ISO", "R-40AAA": "ISO",
    "127457009": "SPECIMEN", "G-8310": "SPECIMEN",
}  # fmt: skip
# Other spellings of View Position; "ML" stays mediolateral here; converters of data sets that mean MLO change it.
_VIEW_NAMES = {"ML0": "MLO", "RCC": "CC", "LCC": "CC", "RMLO": "MLO", "LMLO": "MLO", "CCD": "CC", "MLOD": "MLO"}
# View modifiers (context group 4015), likewise.
_MODIFIER_CODES = {
    "441752004": "Anterior compression", "P2-00161": "Anterior compression",
    "399011000": "Axillary tail", "R-102D1": "Axillary tail",
    "442580003": "Axillary tissue", "R-40AB2": "Axillary tissue",
    "399161006": "Cleavage", "R-102D2": "Cleavage",
    "399209000": "Implant displaced", "R-102D5": "Implant displaced",
    "442593008": "Infra-mammary fold", "R-40ABE": "Infra-mammary fold",
    "399163009": "Magnification", "R-102D6": "Magnification",
    "442581004": "Nipple in profile", "R-40AB3": "Nipple in profile",
    "414493004": "Rolled inferior", "R-102CA": "Rolled inferior",
    "399197002": "Rolled lateral", "R-102D3": "Rolled lateral",
    "399226006": "Rolled medial", "R-102D4": "Rolled medial",
    "415670009": "Rolled superior", "R-102C9": "Rolled superior",
    "399055006": "Spot compression", "R-102D7": "Spot compression",
    "399110001": "Tangential", "R-102C2": "Tangential",
}  # fmt: skip
_VIEWS = set(VIEW_OF_CODE.values()) | {"XCC", "CV", "AT"}

# Where the size of a pixel may be, best first. Imager Pixel Spacing is measured at the detector, Pixel Spacing may be
# calibrated to the patient, the last two are of film scanners; hence the source tag goes with the value.
_SPACING_KEYWORDS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SpatialResolution")


_FRAME_ATTRIBUTES = {
    "PixelMeasuresSequence": ("PixelSpacing",),
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
}


def laterality_of(dataset: Dataset) -> str | None:
    """ "L" or "R" from Image Laterality, Frame Laterality or (Series) Laterality; None if absent or both."""
    return next((side if side in ("L", "R") else None for side in lateralities_of(dataset).values()), None)


def lateralities_of(dataset: Dataset) -> dict[str, str]:
    """Keyword -> "L", "R" or "other" (e.g. both), of all tags that name a side, the most specific first."""
    values = [("ImageLaterality", dataset.get("ImageLaterality"))]
    for group in dataset.get("SharedFunctionalGroupsSequence") or []:
        values += [("FrameLaterality", item.get("FrameLaterality")) for item in group.get("FrameAnatomySequence") or []]
    values.append(("Laterality", dataset.get("Laterality")))
    sides: dict[str, str] = {}
    for keyword, value in values:
        text = str(value or "").strip().upper()
        if text:
            sides.setdefault(keyword, text[0] if text in ("L", "R", "LEFT", "RIGHT") else "other")
    return sides


def view_of(dataset: Dataset) -> tuple[str | None, tuple[str, ...]]:
    """The view and the meanings of its modifiers, e.g. ("CC", ("Magnification",)).

    View Position is taken where it holds a known term; else the View Code Sequence (often the only place in newer
    files). Modifiers come from the View Modifier Code Sequence.
    """
    view = _view_name(dataset.get("ViewPosition"))
    modifiers: list[str] = []
    for item in dataset.get("ViewCodeSequence") or []:
        view = view or VIEW_OF_CODE.get(_code(item)) or _view_name(item.get("CodeMeaning"))
        for modifier in item.get("ViewModifierCodeSequence") or []:
            meaning = _MODIFIER_CODES.get(_code(modifier)) or text_of(modifier, "CodeMeaning")
            if meaning:
                modifiers.append(meaning)
    return view, tuple(modifiers)


def spacing_of(dataset: Dataset) -> tuple[tuple[float, float] | None, str | None]:
    """((row, column) in mm, keyword it came from), or (None, None)."""
    for keyword in _SPACING_KEYWORDS:
        value = dataset.get(keyword)
        if value is None or value == "":
            continue
        try:
            numbers = [float(v) for v in (value if isinstance(value, (list, tuple)) or _is_multi(value) else [value])]
        except (TypeError, ValueError):
            continue
        if numbers and len(numbers) <= 2 and all(math.isfinite(n) and n > 0 for n in numbers):
            return (numbers[0], numbers[-1]), keyword
    return None, None


def lift_frame_attributes(dataset: Dataset, frame: int) -> None:
    """Copy one frame's spacing, rescale and window to the top level, in place, where they are not there already.

    Enhanced files (tomosynthesis, synthetic 2D) keep them in functional groups, shared or per frame.
    """
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    groups = [*per_frame[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or [])]
    for sequence, keywords in _FRAME_ATTRIBUTES.items():
        for item in (item for group in groups for item in group.get(sequence) or []):
            for keyword in keywords:
                if keyword in item and keyword not in dataset:
                    dataset[keyword] = item[keyword]


def chest_wall_of(dataset: Dataset) -> str | None:
    """Side of the image at which Patient Orientation puts the chest wall: "left", "right" or None.

    The first value tells where the rows lead: to the anterior (A), so the chest wall is on the left, or to the
    posterior (P).
    """
    value = dataset.get("PatientOrientation")
    if not value:
        return None
    first = str(value if isinstance(value, str) else value[0]).upper()[:1]
    return {"A": "left", "P": "right"}.get(first)


def text_of(dataset: Dataset, keyword: str) -> str:
    """A tag's value as stripped text, "" if absent."""
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()


def _is_multi(value: Any) -> bool:
    return hasattr(value, "__iter__") and not isinstance(value, (str, bytes))


def _view_name(value: Any) -> str | None:
    text = str(value or "").strip().upper().replace("-", "").replace(" ", "")
    text = _VIEW_NAMES.get(text, text)
    if text in ("CRANIOCAUDAL",):
        return "CC"
    if text in ("MEDIOLATERALOBLIQUE",):
        return "MLO"
    return text if text in _VIEWS else None


def _code(item: Dataset) -> str:
    return text_of(item, "CodeValue") or text_of(item, "LongCodeValue")
