"""Reading a DICOM file: any transfer syntax, to bright-on-dark float32 pixels and an ``ImageMeta``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.pixels import get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from mammo_d2.data.reading.dicom import codecs
from mammo_d2.data.reading.dicom.grey_scale import grey_table
from mammo_d2.data.reading.dicom.tags import (
    chest_wall_of,
    laterality_of,
    lift_frame_attributes,
    spacing_of,
    text_of,
    view_of,
)
from mammo_d2.data.reading.dicom.unusual import image_kinds, unusual_facts
from mammo_d2.data.reading.image_meta import ImageMeta, ImageReadError, ReadOptions, depth_warnings
from mammo_d2.data.reading.size_limits import check_inflated, check_size

_PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
# (7FE0,0010) in little endian byte order.
_PIXEL_DATA_TAG = b"\xe0\x7f\x10\x00"


def is_dicom(path: str | os.PathLike[str]) -> bool:
    """Whether the file starts with DICOM's preamble."""
    with open(path, "rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def read_dicom(path: str | os.PathLike[str], options: ReadOptions | None = None) -> tuple[np.ndarray, ImageMeta]:
    """Read one image.

    Args:
        path: the file.
        options: VOI transformation, frame and what to do with FOR PROCESSING images.

    Returns:
        float32 (H, W) in [0, meta.max_value], breast bright, background 0; and the facts about it.

    Raises:
        ImageReadError: the file has no pixels, is truncated, has several frames or colours, or no decoder is installed.
    """
    options = options or ReadOptions()
    dataset = open_dicom(path)
    with _damaged_header(path):
        _check_readable(path, dataset, options)
        lift_frame_attributes(dataset, options.frame or 0)
        stored, warnings = _decode(path, dataset, options.frame or 0)
        table = grey_table(dataset, options)
        if table.voi == "none" and not dataset.get("PixelRepresentation") and not dataset.get("ModalityLUTSequence"):
            warnings += depth_warnings(
                float(stored.max()), int(dataset.BitsStored), "correct its Bits Stored ({bits}?)"
            )
        meta = meta_of(path, dataset, voi=table.voi, max_value=table.max_value, warnings=(*warnings, *table.warnings))
    return table.apply(stored), meta


def read_dicom_meta(path: str | os.PathLike[str]) -> ImageMeta:
    """The facts about an image without decoding its pixels; ``max_value`` and ``voi`` are those of the stored values.

    Raises:
        ImageReadError: not a DICOM file, or not an image.
    """
    dataset = open_dicom(path, stop_before_pixels=True)
    with _damaged_header(path):
        if not dataset.get("Rows") or not dataset.get("Columns"):
            raise ImageReadError(path, "DICOM object without an image (no Rows and Columns)", "leave it out")
        lift_frame_attributes(dataset, 0)
        return meta_of(path, dataset)


def open_dicom(path: str | os.PathLike[str], *, stop_before_pixels: bool = False) -> FileDataset:
    """Parse a DICOM file.

    Raises:
        FileNotFoundError: no such file.
        ImageReadError: not DICOM, or cut off.
    """
    with _damaged_header(path):
        _check_deflated(path)
        try:
            return pydicom.dcmread(path, stop_before_pixels=stop_before_pixels)
        except InvalidDicomError:
            # Old files lack the preamble; they are accepted if they parse as an image.
            dataset = pydicom.dcmread(path, stop_before_pixels=stop_before_pixels, force=True)
            if not dataset.get("Rows") or not dataset.get("Columns"):
                raise ImageReadError(path, "not a DICOM file", "check what it is") from None
            if "TransferSyntaxUID" not in dataset.file_meta:
                dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            return dataset


def _check_deflated(path: str | os.PathLike[str]) -> None:
    """Check how much a deflated file becomes; pydicom inflates it whole when it opens it."""
    with open(path, "rb") as stream:
        head = stream.read(4096)
        if head[128:132] != b"DICM" or DeflatedExplicitVRLittleEndian.encode() not in head:
            return
        # The first element is the length of the file's meta information, which is not deflated.
        if head[132:140] != b"\x02\x00\x00\x00UL\x04\x00":
            raise ImageReadError(path, "deflated DICOM file without the length of its meta information", "convert it")
        stream.seek(144 + int.from_bytes(head[140:144], "little"))
        check_inflated(path, stream.read())


@contextmanager
def _damaged_header(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn whatever pydicom makes of a damaged header into an ``ImageReadError``; it parses values on first use."""
    try:
        yield
    except (ImageReadError, FileNotFoundError, PermissionError, MemoryError):
        raise
    except Exception as error:
        problem = f"damaged or truncated DICOM file ({type(error).__name__}: {error})"
        raise ImageReadError(path, problem, "copy the file again from its source") from error


def meta_of(
    path: str | os.PathLike[str],
    dataset: FileDataset,
    *,
    voi: str = "none",
    max_value: float | None = None,
    warnings: tuple[str, ...] = (),
) -> ImageMeta:
    """Collect the facts about an image from its tags."""
    bits = int(dataset.get("BitsStored") or 16)
    spacing, spacing_source = spacing_of(dataset)
    view, modifiers = view_of(dataset)
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    unusual = unusual_facts(dataset)
    return ImageMeta(
        path=os.fspath(path),
        format="dicom",
        height=int(dataset.Rows),
        width=int(dataset.Columns),
        bits_stored=bits,
        max_value=float((1 << bits) - 1) if max_value is None else max_value,
        photometric=text_of(dataset, "PhotometricInterpretation"),
        voi=voi,
        pixel_spacing=spacing,
        pixel_spacing_source=spacing_source,
        laterality=laterality_of(dataset),
        view=view,
        view_modifiers=modifiers,
        patient_id=text_of(dataset, "PatientID") or None,
        exam_id=text_of(dataset, "StudyInstanceUID") or None,
        sop_instance_uid=text_of(dataset, "SOPInstanceUID") or None,
        modality=text_of(dataset, "Modality"),
        manufacturer=text_of(dataset, "Manufacturer"),
        presentation_intent=text_of(dataset, "PresentationIntentType"),
        transfer_syntax=syntax.name if syntax else "",
        sop_class=getattr(dataset.get("SOPClassUID"), "name", ""),
        chest_wall=chest_wall_of(dataset),
        kinds=image_kinds(dataset, view, modifiers),
        study_date=text_of(dataset, "StudyDate") or None,
        unusual=unusual,
        warnings=(*warnings, *(f"{fact}; check whether it belongs to the images" for fact in unusual)),
    )


def _check_readable(path: Any, dataset: FileDataset, options: ReadOptions) -> None:
    """Raise an error for files that would give a wrong image without notice."""
    if not any(keyword in dataset for keyword in _PIXEL_KEYWORDS) or not dataset.get("Rows"):
        if _PIXEL_DATA_TAG in Path(path).read_bytes():
            # pydicom drops an element that ends beyond the file.
            raise ImageReadError(path, "truncated DICOM file, its pixel data is cut off", "copy the file again")
        name = getattr(dataset.get("SOPClassUID"), "name", "unknown class")
        raise ImageReadError(path, f"DICOM file without pixel data ({name})", "leave it out, or fetch the image itself")
    if "PixelData" not in dataset or int(dataset.get("BitsAllocated") or 0) not in (8, 16):
        bits = dataset.get("BitsAllocated")
        raise ImageReadError(path, f"Bits Allocated {bits} is not a mammogram's", "convert it to 8 or 16 bits")
    check_size(path, int(dataset.Rows), int(dataset.get("Columns") or 0))
    stored = int(dataset.get("BitsStored") or 0)
    if not 1 <= stored <= int(dataset.BitsAllocated):
        raise ImageReadError(
            path, f"Bits Stored {stored} does not fit Bits Allocated {dataset.BitsAllocated}", "correct the header"
        )
    photometric = text_of(dataset, "PhotometricInterpretation")
    if int(dataset.get("SamplesPerPixel") or 1) != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageReadError(
            path,
            f"colour image ({photometric or 'no Photometric Interpretation'})",
            "leave it out: mammograms are grey",
        )
    frames = int(dataset.get("NumberOfFrames") or 1)
    if frames > 1 and options.frame is None:
        name = getattr(dataset.get("SOPClassUID"), "name", "multi-frame image")
        raise ImageReadError(
            path,
            f"{frames} frames ({name})",
            "use the 2D or synthetic 2D image of the same view, or choose one frame (--frame)",
        )
    if options.frame is not None and not 0 <= options.frame < frames:
        raise ImageReadError(path, f"frame {options.frame} asked for, but it has {frames}", "choose a lower one")
    if text_of(dataset, "PresentationIntentType").upper() == "FOR PROCESSING" and not options.for_processing:
        raise ImageReadError(
            path, "FOR PROCESSING image (raw detector values)",
            "use the FOR PRESENTATION image of the same view, or allow it (--for-processing)",
        )  # fmt: skip


def _decode(path: Any, dataset: FileDataset, frame: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Stored values (H, W) of one frame, and warnings."""
    # Unused bits are left as they are where High Bit says that the values lie in the upper ones.
    usual: Any = _unused_low_bits(dataset) == 0  # pydicom annotates its options wrongly
    syntax = dataset.file_meta.get("TransferSyntaxUID", ImplicitVRLittleEndian)
    codecs.register()
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError as error:
        raise ImageReadError(
            path,
            f"transfer syntax {syntax.name} ({syntax}) is not an image's",
            "convert the file (e.g. dcmdjpeg, gdcmconv)",
        ) from error
    # One decoder for all machines, so that lossy files give the same pixels everywhere.
    ours = codecs.LABEL in decoder.available_plugins
    if syntax.is_encapsulated and not decoder.is_available:
        raise ImageReadError(
            path, f"no decoder for transfer syntax {syntax.name} ({syntax})", "run: pip install imagecodecs"
        )
    try:
        stored, _ = decoder.as_array(
            dataset, index=frame, decoding_plugin=codecs.LABEL if ours else "", correct_unused_bits=usual
        )
    except Exception as error:  # the decoders raise whatever their C libraries make of damaged data
        raise ImageReadError(
            path,
            f"pixel data ({syntax.name}) cannot be decoded: {' '.join(str(error).split())}",
            "copy the file again from its source, or convert it (e.g. gdcmconv --raw)",
        ) from error
    if stored.shape != (dataset.Rows, dataset.Columns):
        raise ImageReadError(
            path,
            f"decoded {stored.shape} pixels, the header says {(dataset.Rows, dataset.Columns)}",
            "correct the header",
        )
    return (stored, ()) if usual else _from_high_bit(stored, dataset)


def _unused_low_bits(dataset: FileDataset) -> int:
    """How many bits lie below the stored values according to High Bit; 0 in current files (PS3.5 8.1.1)."""
    high, bits = dataset.get("HighBit"), int(dataset.BitsStored)
    return 0 if high is None else int(high) + 1 - bits


def _from_high_bit(stored: np.ndarray, dataset: FileDataset) -> tuple[np.ndarray, tuple[str, ...]]:
    """Values whose High Bit is not Bits Stored - 1: in the upper bits of the container, or a wrong header."""
    bits, shift = int(dataset.BitsStored), _unused_low_bits(dataset)
    values = stored.view(stored.dtype.str.replace("i", "u"))
    about = f"High Bit {dataset.HighBit} with {bits} bits stored"
    if 0 < shift <= 8 * values.dtype.itemsize - bits and values.max() >> bits:
        values = (values >> shift) & values.dtype.type((1 << bits) - 1)
        warning = f"{about}: values taken from the upper bits; look at this image"
    else:
        warning = f"{about}, but the values lie in the lowest bits and are taken from there; look at this image"
        values = values & values.dtype.type((1 << bits) - 1)
    return (codecs.sign_extended(values, bits) if stored.dtype.kind == "i" else values), (warning,)
