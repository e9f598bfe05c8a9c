"""Any mammogram file to float32 pixels and what is known about them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from mammo_d2.data.reading.dicom.dicom_file import read_dicom, read_dicom_meta
from mammo_d2.data.reading.image_meta import ImageMeta, ImageReadError, ReadOptions
from mammo_d2.data.reading.raster import raster_format, read_raster
from mammo_d2.data.reading.tiff_tiles import TiledPixels

__all__ = ["ImageMeta", "ImageReadError", "ReadOptions", "image_size", "read_image"]

IMAGE_SUFFIXES = (".dcm", ".dicom", ".png", ".tif", ".tiff", ".pgm", ".jpg", ".jpeg")


def read_image(path: str | os.PathLike[str], options: ReadOptions | None = None) -> tuple[np.ndarray, ImageMeta]:
    """Read one image in its full depth.

    The format is found from the content: DICOM (every transfer syntax that imagecodecs decodes), 8- and 16-bit PNG and
    TIFF, PGM, JPEG.

    Args:
        path: the file.
        options: for DICOM: which VOI transformation, which frame, FOR PROCESSING images or not; for other files how
            many of 16 bits are used.

    Returns:
        Pixels as float32 (H, W), breast bright and background dark, in [0, ``meta.max_value``]; and the meta.

    Raises:
        FileNotFoundError: no such file.
        ImageReadError: the file cannot be read as a grey image: truncated, damaged, without pixel data, in colour, with
            several frames, in an unknown format. The message names the file and the remedy.
    """
    path = Path(path)
    head = _head(path)
    if raster_format(head) is None or head[128:132] == b"DICM":
        if head[128:132] != b"DICM" and path.suffix.lower() not in (".dcm", ".dicom", ""):
            raise ImageReadError(path, "not a DICOM, PNG, TIFF, PGM or JPEG file", "convert it to one of these")
        return read_dicom(path, options)
    return read_raster(path, path.read_bytes(), options.bits if options else 0)


def image_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(height, width) of an image; from the header where the format has one, else by decoding.

    Raises:
        FileNotFoundError, ImageReadError: as ``read_image``.
    """
    path = Path(path)
    head = _head(path)
    kind = None if head[128:132] == b"DICM" else raster_format(head)
    if kind == "png":
        return int.from_bytes(head[20:24], "big"), int.from_bytes(head[16:20], "big")
    tiled = TiledPixels.open(path) if kind == "tiff" else None
    if tiled is not None:
        return tiled.shape
    meta = read_dicom_meta(path) if kind is None else read_image(path)[1]
    return meta.height, meta.width


def _head(path: Path) -> bytes:
    if not path.is_file():
        what = "is a folder, not an image file" if path.is_dir() else "no such image file"
        raise FileNotFoundError(f"{path}: {what}; check the path in the annotation file and the image folder")
    with path.open("rb") as stream:
        head = stream.read(132)
    if not head:
        raise ImageReadError(path, "empty file", "copy the file again from its source")
    return head
