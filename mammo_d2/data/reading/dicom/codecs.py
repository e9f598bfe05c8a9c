"""A pydicom decoding plugin on imagecodecs (BSD-3): every compressed transfer syntax in use for mammograms.

pydicom itself decodes uncompressed and (slowly) RLE files and asks plugins for the rest. This one needs no GPL code,
exists for every Python version and platform, and also reads the 12-bit JPEG Extended process. The functions are
called by pydicom's decoders; ``register`` adds the plugin to them once.
"""

from __future__ import annotations

import struct
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder

from mammo_d2.data.reading.size_limits import jpeg_2000_size, jpeg_size

LABEL = "imagecodecs"

_JPEG = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLossless, uid.JPEGLosslessSV1)
_JPEG_LS = (uid.JPEGLSLossless, uid.JPEGLSNearLossless)
# OpenJPEG decodes high-throughput JPEG 2000 with the same function.
_JPEG_2000 = (uid.JPEG2000Lossless, uid.JPEG2000, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.HTJ2K)
_LOSSY = (uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K)
_SUPPORTED = (*_JPEG, *_JPEG_LS, *_JPEG_2000, uid.RLELossless)

# Number of segments and 15 offsets, of which the first so many are used.
_RLE_HEADER = struct.Struct("<16I")

# Read by pydicom when the plugin cannot be used, to say what is missing.
DECODER_DEPENDENCIES = dict.fromkeys(_SUPPORTED, ("numpy", "imagecodecs"))


def is_available(transfer_syntax: str) -> bool:
    """Whether imagecodecs is installed and decodes this transfer syntax (called by pydicom)."""
    try:
        import imagecodecs
    except ImportError:
        return False
    if transfer_syntax in _JPEG:
        return bool(imagecodecs.JPEG8.available and imagecodecs.LJPEG.available)
    if transfer_syntax in _JPEG_LS:
        return bool(imagecodecs.JPEGLS.available)
    if transfer_syntax in _JPEG_2000:
        return bool(imagecodecs.JPEG2K.available)
    return transfer_syntax == uid.RLELossless and bool(imagecodecs.DICOMRLE.available)


def decode_frame(frame: bytes, runner: Any) -> bytes:
    """Decode one frame (called by pydicom).

    Args:
        frame: the encoded frame.
        runner: pydicom's ``DecodeRunner``, which knows the image's attributes and is told how the result is laid out.

    Returns:
        Little-endian samples, colour by pixel except for RLE.

    Raises:
        ValueError: a JPEG stream without its end, an RLE header that does not fit its frame, a stream of another size
            than the image.
    """
    import imagecodecs

    syntax = runner.transfer_syntax
    if syntax in _JPEG and b"\xff\xd9" not in frame[-16:]:
        # libjpeg would fill the missing part with grey and only print a warning.
        raise ValueError("the JPEG stream is cut off (no end marker)")
    if syntax == uid.RLELossless:
        runner.set_option("planar_configuration", 1)
        container = np.dtype(f"<u{runner.bits_allocated // 8}")
        _check_rle_segments(frame, container.itemsize * runner.samples_per_pixel)
        return bytes(imagecodecs.dicomrle_decode(frame, container))
    _check_stream_size(runner, jpeg_2000_size(frame) if syntax in _JPEG_2000 else jpeg_size(frame))
    if syntax in _JPEG_LS:
        pixels = imagecodecs.jpegls_decode(frame)
    elif syntax in _JPEG_2000:
        pixels = imagecodecs.jpeg2k_decode(frame)
    elif syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
        pixels = imagecodecs.ljpeg_decode(frame)
    else:
        pixels = imagecodecs.jpeg8_decode(frame)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    if syntax in _LOSSY and pixels.dtype.kind == "u":
        # Rounding can overshoot Bits Stored; pydicom would mask the overflow away and turn white into black.
        pixels = np.minimum(pixels, pixels.dtype.type((1 << runner.bits_stored) - 1))
    if runner.pixel_representation == 1 and pixels.dtype.kind == "u":
        # JPEG and JPEG-LS streams do not know signs; pydicom would take the stream's precision for Bits Stored.
        pixels = sign_extended(pixels, runner.bits_stored)
    # The container follows the stream's own precision, which may be narrower than Bits Allocated.
    runner.set_option("bits_allocated", 8 * pixels.dtype.itemsize)
    return pixels.astype(pixels.dtype.newbyteorder("<"), copy=False).tobytes()


def _check_stream_size(runner: Any, size: tuple[int, int, int] | None) -> None:
    """Check a stream's own size before it is decoded: a wrong one can stand for gigabytes.

    Raises:
        ValueError: not the image's rows, columns and samples per pixel.
    """
    expected = runner.rows, runner.columns, runner.samples_per_pixel
    # JPEG may leave the height to the end of the stream (0).
    if size is not None and size != (size[0] and expected[0], *expected[1:]):
        raise ValueError(f"the stream has (rows, columns, samples) {size}, the header says {expected}")


def sign_extended(pixels: np.ndarray, bits: int) -> np.ndarray:
    """The lowest ``bits`` of unsigned containers as two's complement: 4095 of 12 bits is -1.

    Args:
        pixels: uint8 or uint16, any shape.
        bits: 1 to the container's.

    Returns:
        int8 or int16 of the same shape.
    """
    unused = 8 * pixels.dtype.itemsize - bits
    signed = pixels.view(pixels.dtype.str.replace("u", "i"))
    return (signed << unused) >> unused if unused > 0 else signed


def _check_rle_segments(frame: bytes, expected: int) -> None:
    """Check the header of an RLE frame (PS3.5 G.5): imagecodecs reads wherever its offsets point.

    Args:
        frame: the encoded frame.
        expected: number of segments, one per byte of a pixel.

    Raises:
        ValueError: cut off, another number of segments, or segments that do not follow each other within the frame.
    """
    if len(frame) < _RLE_HEADER.size:
        raise ValueError(f"the RLE frame is cut off ({len(frame)} bytes, its header has {_RLE_HEADER.size})")
    count, *offsets = _RLE_HEADER.unpack_from(frame)
    if count != expected:
        raise ValueError(f"the RLE header names {count} segments, the image has {expected}")
    ends = [*offsets[:count], len(frame)]
    if ends[0] < _RLE_HEADER.size or any(start >= end for start, end in pairwise(ends)):
        raise ValueError(f"the RLE header's segment offsets {ends[:-1]} do not fit its frame of {len(frame)} bytes")


@cache
def register() -> None:
    """Add the plugin to pydicom's decoders, once per process."""
    for syntax in _SUPPORTED:
        decoder = get_decoder(syntax)
        if LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, "decode_frame"))
