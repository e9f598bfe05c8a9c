"""Limits on what a file may ask for before it is decoded: pixels, and bytes of a deflated DICOM file.

A few bytes can stand for gigabytes of zeros. The limit is far above every mammogram (film scans have up to 40 million
pixels) and can be raised by the environment variable ``MAMMO_D2_MAX_MEGAPIXELS``, which worker processes inherit.
"""

from __future__ import annotations

import math
import os
import struct
import zlib

from mammo_d2.data.reading.image_meta import ImageReadError

MAX_MEGAPIXELS = 150.0
VARIABLE = "MAMMO_D2_MAX_MEGAPIXELS"
_BYTES_PER_PIXEL = 8
_CHUNK = 1 << 20
# Markers of a JPEG or JPEG-LS frame header: SOF0..15 without DHT, JPG and DAC, and SOF55.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def max_megapixels() -> float:
    """The limit in millions of pixels.

    Raises:
        ValueError: the environment variable is no positive number.
    """
    text = os.environ.get(VARIABLE, "").strip()
    try:
        limit = float(text or MAX_MEGAPIXELS)
    except ValueError:
        limit = math.nan
    if not limit > 0:
        raise ValueError(f"{VARIABLE}={text!r} must be a positive number, in millions of pixels")
    return limit


def allow_megapixels(limit: float | None) -> None:
    """Set the limit for this process and those that it starts; None leaves it.

    Raises:
        ValueError: not a positive number.
    """
    if limit is not None:
        os.environ[VARIABLE] = str(limit)
    max_megapixels()


def check_size(path: str | os.PathLike[str], height: int, width: int) -> None:
    """Check the size that a file's header promises.

    Raises:
        ImageReadError: more pixels than allowed.
    """
    millions, limit = height * width / 1e6, max_megapixels()
    if millions > limit:
        raise ImageReadError(
            path,
            f"{height} x {width} = {millions:.4g} million pixels, more than {limit:g} million",
            f"leave it out, or allow it (--max-megapixels {math.ceil(millions)}, or {VARIABLE} in the environment)",
        )


def check_inflated(path: str | os.PathLike[str], deflated: bytes) -> None:
    """Check the length of raw deflated data without keeping what it inflates to.

    Raises:
        ImageReadError: more bytes than images of the allowed size have.
        zlib.error: damaged data.
    """
    inflater, total = zlib.decompressobj(-zlib.MAX_WBITS), 0
    limit = int(_BYTES_PER_PIXEL * 1e6 * max_megapixels())
    rest = deflated
    while rest and not inflater.eof:
        total += len(inflater.decompress(rest, _CHUNK))
        rest = inflater.unconsumed_tail
        if total > limit:
            raise ImageReadError(
                path,
                f"its {len(deflated)} deflated bytes become more than {limit / 1e9:g} GB",
                f"leave it out, or allow more (--max-megapixels, or {VARIABLE} in the environment)",
            )


def jpeg_size(data: bytes) -> tuple[int, int, int] | None:
    """(height, width, components) in the frame header of a JPEG or JPEG-LS stream; None if there is none."""
    position = 2
    while position + 10 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif marker in _FRAME_MARKERS:
            height, width, components = struct.unpack_from(">HHB", data, position + 5)
            return height, width, components
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def jpeg_2000_size(data: bytes) -> tuple[int, int, int] | None:
    """(height, width, components) in the SIZ marker of a JPEG 2000 stream, bare or in a file; None if there is none."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 42 > len(data):
        return None
    right, bottom, left, top = struct.unpack_from(">4I", data, start + 8)
    (components,) = struct.unpack_from(">H", data, start + 40)
    return bottom - top, right - left, components
