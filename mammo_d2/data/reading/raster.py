"""Reading PNG, TIFF, PGM and JPEG without losing depth, and noticing files that are cut off.

OpenCV decodes the pixels, but for the tiles of prepared images (``tiff_tiles``). It silently fills the missing part of
a truncated file with zeros or grey, so the container is checked first.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np

from mammo_d2.data.reading.image_meta import FULL_SCALE_16_BIT, ImageMeta, ImageReadError, depth_warnings
from mammo_d2.data.reading.size_limits import check_size, jpeg_size
from mammo_d2.data.reading.tiff_tiles import TiledPixels, tiff_tags

_COPY_AGAIN = "copy the file again from its source"
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Grey images saved as colour differ a little between the channels after JPEG; more than this is a real colour image.
_GREY_TOLERANCE = 0.02


def raster_format(head: bytes) -> str | None:
    """The format of a file from its first bytes: "png", "tiff", "pgm", "jpeg" or None."""
    if head.startswith(_PNG_SIGNATURE):
        return "png"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "tiff"
    if head[:2] in (b"P2", b"P5"):
        return "pgm"
    return "jpeg" if head.startswith(b"\xff\xd8\xff") else None


def read_raster(path: str | os.PathLike[str], data: bytes, bits: int = 0) -> tuple[np.ndarray, ImageMeta]:
    """Decode a PNG, TIFF, PGM or JPEG.

    Args:
        path: for messages and ``meta.path``.
        data: the file's content.
        bits: used bits of a 16-bit file; 0: all.

    Returns:
        float32 (H, W) and its meta; ``max_value`` is the full scale of the file's depth (255, 65535 or 2^bits - 1, a
        PGM's maxval, 1.0 for floating point TIFF).

    Raises:
        ImageReadError: unknown format, truncated or damaged file, colour image, pixels beyond ``bits``.
    """
    kind = raster_format(data[:16])
    if kind is None:
        raise ImageReadError(path, "not a DICOM, PNG, TIFF, PGM or JPEG file", "convert it to one of these")
    if kind == "pgm":
        pixels, full_scale = _read_pgm(path, data)
    elif kind == "tiff" and (tiled := TiledPixels.from_content(path, data)) is not None:
        pixels, full_scale = tiled.read(), tiled.max_value
    else:
        _CHECKS[kind](path, data)
        try:
            decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except cv2.error as error:
            # OpenCV has a limit of its own (2^30 pixels).
            problem = f"{kind.upper()} data cannot be decoded ({' '.join(str(error).split())})"
            raise ImageReadError(path, problem, _COPY_AGAIN) from error
        if decoded is None:
            raise ImageReadError(path, f"{kind.upper()} data cannot be decoded", _COPY_AGAIN)
        pixels, full_scale = _to_grey(path, decoded)
    if bits and full_scale == FULL_SCALE_16_BIT:
        full_scale = float(2**bits - 1)
        if pixels.max() > full_scale:
            problem = f"pixels up to {pixels.max():.0f}, more than {bits} bits hold"
            raise ImageReadError(path, problem, "give the right number of bits")
    bits = int(full_scale).bit_length() if full_scale > 1 else 32
    height, width = pixels.shape
    warnings: tuple[str, ...] = ()
    if full_scale == FULL_SCALE_16_BIT:
        warnings = depth_warnings(float(pixels.max()), bits, "give their number (--bits {bits}?)")
    return pixels, ImageMeta(os.fspath(path), kind, height, width, bits, full_scale, warnings=warnings)


def _to_grey(path: str | os.PathLike[str], decoded: np.ndarray) -> tuple[np.ndarray, float]:
    """One channel in float32 and its full scale."""
    if decoded.dtype.kind == "f":
        if not np.isfinite(decoded).all():
            raise ImageReadError(path, "pixels that are NaN or infinite", "replace them, and save a 16-bit image")
        if decoded.min() < 0 or decoded.max() > 1:
            raise ImageReadError(path, "floating point pixels outside 0..1", "save it as a 16-bit image")
        full_scale = 1.0
    elif decoded.dtype in (np.uint8, np.uint16):
        full_scale = float(np.iinfo(decoded.dtype).max)
    else:
        raise ImageReadError(path, f"pixel type {decoded.dtype}", "save it with 8 or 16 bits, unsigned")
    if decoded.ndim == 3:
        if decoded.shape[2] in (2, 4) and (decoded[..., -1] == full_scale).all():
            decoded = decoded[..., :-1]
        spread = float((decoded.max(axis=2).astype(np.float32) - decoded.min(axis=2)).max())
        if decoded.shape[2] not in (1, 3) or spread > _GREY_TOLERANCE * full_scale:
            raise ImageReadError(path, f"colour image of {decoded.shape[2]} channels", "save it as a grey image")
        decoded = decoded[..., 0] if spread == 0 else decoded.mean(axis=2)
    return decoded.astype(np.float32), full_scale


def _check_png(path: str | os.PathLike[str], data: bytes) -> None:
    """Walk over the chunks: each complete, with its checksum, up to IEND."""
    if data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack_from(">II", data, 16)
        check_size(path, height, width)
    position = len(_PNG_SIGNATURE)
    view = memoryview(data)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length
        kind = data[position + 4 : position + 8]
        if end > len(data):
            break
        if zlib.crc32(view[position + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise ImageReadError(path, f"damaged PNG (checksum of chunk {kind.decode('latin1')} is wrong)", _COPY_AGAIN)
        if kind == b"IEND":
            return
        position = end
    raise ImageReadError(path, f"truncated PNG ({len(data)} bytes, no end chunk)", _COPY_AGAIN)


def _check_jpeg(path: str | os.PathLike[str], data: bytes) -> None:
    """The end-of-image marker must be there; trailing padding is allowed."""
    if b"\xff\xd9" not in data[-1024:]:
        raise ImageReadError(path, f"truncated JPEG ({len(data)} bytes, no end marker)", _COPY_AGAIN)
    size = jpeg_size(data)
    if size:
        check_size(path, *size[:2])


def _check_tiff(path: str | os.PathLike[str], data: bytes) -> None:
    """All strips or tiles of the first image must lie within the file."""
    try:
        tags = tiff_tags(data)
    except struct.error as error:
        raise ImageReadError(path, f"truncated TIFF ({len(data)} bytes, no directory)", _COPY_AGAIN) from error
    check_size(path, *(max(tags.get(tag) or [0]) for tag in (257, 256)))
    offsets, counts = (tags.get(273) or tags.get(324) or []), (tags.get(279) or tags.get(325) or [])
    needed = max((o + c for o, c in zip(offsets, counts, strict=False)), default=0)
    if needed > len(data):
        raise ImageReadError(path, f"truncated TIFF ({len(data)} bytes, pixels end at {needed})", _COPY_AGAIN)


def _read_pgm(path: str | os.PathLike[str], data: bytes) -> tuple[np.ndarray, float]:
    """A portable grey map, binary (P5, 8 or 16 bits big-endian) or text (P2); its maxval is the full scale."""
    fields: list[int] = []
    position = 2
    while len(fields) < 3:
        while position < len(data) and data[position : position + 1].isspace():
            position += 1
        if data[position : position + 1] == b"#":
            position = data.find(b"\n", position) % (len(data) + 1)
            continue
        start = position
        while position < len(data) and data[position : position + 1].isdigit():
            position += 1
        if start == position:
            raise ImageReadError(path, "PGM header is incomplete", _COPY_AGAIN)
        # Python refuses to convert thousands of digits; no such number is meant.
        fields.append(int(data[start : min(position, start + 20)]))
    width, height, maxval = fields
    if not (0 < width < 2**31 and 0 < height < 2**31 and 0 < maxval < 65536):
        raise ImageReadError(path, f"PGM header says {width} x {height}, maximum {maxval}", _COPY_AGAIN)
    check_size(path, height, width)
    if data[:2] == b"P2":
        try:
            values = np.array(data[position:].split(), dtype=np.int64)
        except (ValueError, OverflowError) as error:
            raise ImageReadError(path, f"PGM pixels that are no numbers ({error})", _COPY_AGAIN) from error
    else:
        container = np.dtype(">u2" if maxval > 255 else "u1")
        body = data[position + 1 :]
        values = np.frombuffer(body[: len(body) - len(body) % container.itemsize], container)
    if len(values) < width * height:
        raise ImageReadError(path, f"truncated PGM ({len(values)} of {width * height} pixels)", _COPY_AGAIN)
    values = values[: width * height]
    if values.min() < 0 or values.max() > maxval:
        problem = f"PGM pixels from {values.min()} to {values.max()}, its header says 0 to {maxval}"
        raise ImageReadError(path, problem, "correct the maximum in its header, or save it again")
    return values.reshape(height, width).astype(np.float32), float(maxval)


_CHECKS: dict[str, Callable[[str | os.PathLike[str], bytes], None]] = {
    "png": _check_png,
    "jpeg": _check_jpeg,
    "tiff": _check_tiff,
}
