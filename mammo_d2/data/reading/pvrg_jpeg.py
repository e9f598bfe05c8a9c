"""Lossless JPEG files as the program of Stanford's Portable Video Research Group (PVRG) wrote them, e.g. DDSM's .LJPEG.

They differ from the standard (ITU-T T.81, process 14) in one point: the first line, too, is predicted by the scan's
predictor, from a line of half the full scale above it; the standard always predicts it from the left. With predictors
1 and 4 both give the same pixels, with the others decoders of the standard damage the whole image without an error.
Here such a line is put in front of the stream before a decoder of the standard reads it.

Checked against the PVRG program itself (its 12- and 16-bit streams with predictors 1 to 7), not against a file of DDSM.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.data.reading.size_limits import check_size

_COPY_AGAIN = "copy the file again from its source"
# Lines put in front. With eight of them their code has a whole number of bytes, whatever the width.
_LINES = 8
_SOF3, _DHT, _SOS, _DRI, _EOI = 0xC3, 0xC4, 0xDA, 0xDD, b"\xff\xd9"


@dataclass
class _Stream:
    """The parts of a stream: frame header, code of "no difference" as text of 0 and 1, and where things lie."""

    height: int = 0
    width: int = 0
    frame: int = -1
    zero_code: str = ""
    entropy: int = -1


def read_pvrg_jpeg(path: str | os.PathLike[str], data: bytes, size: tuple[int, int] | None = None) -> np.ndarray:
    """Decode a PVRG lossless JPEG of one component.

    Args:
        path: for messages.
        data: the file's content.
        size: the image's (height, width) where another file says it. Some files of DDSM have other ones in their
            header, such as the two exchanged; the pixels are then laid out anew.

    Returns:
        uint16 (H, W).

    Raises:
        ImageReadError: another kind of JPEG, a damaged or cut off file, or one of another number of pixels.
    """
    import imagecodecs

    stream = _parse(path, data)
    check_size(path, stream.height, stream.width)
    size = size or (stream.height, stream.width)
    if size[0] * size[1] != stream.height * stream.width:
        problem = (
            f"its header says {stream.height} x {stream.width} pixels, the image should have {size[0]} x {size[1]}"
        )
        raise ImageReadError(path, problem, _COPY_AGAIN)
    try:
        pixels = imagecodecs.ljpeg_decode(_with_first_lines(data, stream))
    except Exception as error:  # whatever the C library makes of damaged data
        problem = f"lossless JPEG data cannot be decoded: {' '.join(str(error).split())}"
        raise ImageReadError(path, problem, _COPY_AGAIN) from error
    return np.ascontiguousarray(pixels[_LINES:], np.uint16).reshape(size)


def _parse(path: str | os.PathLike[str], data: bytes) -> _Stream:
    """Walk over the markers up to the entropy-coded data."""
    if not data.startswith(b"\xff\xd8"):
        raise ImageReadError(path, "not a JPEG file", "unpack it if it is packed (gunzip), or copy it again")
    if _EOI not in data[-1024:]:
        raise ImageReadError(path, f"truncated JPEG ({len(data)} bytes, no end marker)", _COPY_AGAIN)
    codes: dict[int, str] = {}
    stream, tables, position = _Stream(), 0, 2
    try:
        while stream.entropy < 0:
            marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
            if data[position] != 0xFF or length < 2:
                raise ImageReadError(path, f"no JPEG marker at byte {position}", _COPY_AGAIN)
            if marker == _SOF3:
                _, stream.height, stream.width, components = struct.unpack_from(">BHHB", data, position + 4)
                stream.frame = position
                if components != 1:
                    raise ImageReadError(path, f"JPEG of {components} components", "save it as a grey image")
            elif marker == _DHT:
                codes |= _zero_codes(data[position + 4 : position + 2 + length])
                tables += 1
            elif marker == _DRI and any(data[position + 4 : position + 6]):
                raise ImageReadError(path, "lossless JPEG with restart intervals", "convert it to PNG or TIFF")
            elif 0xC0 <= marker <= 0xCF:
                raise ImageReadError(path, "a JPEG, but not a lossless one (SOF3)", "give it its usual name, .jpg")
            elif marker == _SOS:
                stream.zero_code = codes.get(data[position + 6] >> 4, "")
                stream.entropy = position + 2 + length
            position += 2 + length
    except (IndexError, struct.error) as error:
        raise ImageReadError(path, f"truncated JPEG ({len(data)} bytes)", _COPY_AGAIN) from error
    if stream.frame < 0 or not tables or not stream.height or not stream.width:
        raise ImageReadError(path, "lossless JPEG without frame header or code table", _COPY_AGAIN)
    if not stream.zero_code:
        # Of a film's millions of neighbouring pixels some are equal.
        raise ImageReadError(path, "lossless JPEG without a code for equal neighbours", "convert it to PNG or TIFF")
    return stream


def _zero_codes(segment: bytes) -> dict[int, str]:
    """Table number -> code of category 0, of one DHT segment."""
    codes: dict[int, str] = {}
    position = 0
    while position + 17 <= len(segment):
        table, counts = segment[position] & 15, segment[position + 1 : position + 17]
        values = segment[position + 17 : position + 17 + sum(counts)]
        code, starts = 0, list(accumulate(counts, initial=0))
        for length in range(1, 17):
            for value in values[starts[length - 1] : starts[length]]:
                if value == 0:
                    codes[table] = f"{code:0{length}b}"
                code += 1
            code <<= 1
        position += 17 + len(values)
    return codes


def _with_first_lines(data: bytes, stream: _Stream) -> bytes:
    """The file with lines of half the full scale in front: the first sample's prediction, and no differences."""
    bits = np.frombuffer((stream.zero_code * _LINES).encode(), np.uint8) - ord("0")
    # A byte of ones is followed by a stuffed zero byte.
    lines = np.packbits(np.tile(bits, stream.width)).tobytes().replace(b"\xff", b"\xff\x00")
    height = struct.pack(">H", stream.height + _LINES)
    frame = stream.frame + 5
    return data[:frame] + height + data[frame + 2 : stream.entropy] + lines + data[stream.entropy :]
