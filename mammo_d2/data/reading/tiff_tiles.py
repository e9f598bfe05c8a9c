"""Prepared pixels as TIFF in tiles: decoded several times faster than PNG, and a window without the rest of the image.

An ordinary TIFF 6.0 file of one grey image in tiles of 256 pixels, each compressed by Zstandard (Compression 50000)
after horizontal differences (Predictor 2), as libtiff and what is built on it write and read. Two things are ours:

* MaxSampleValue (tag 281) of a 16-bit file is m < 65535 where the pixels of a detector with fewer bits are kept as they
  were, v in 0..m. ``TiledPixels`` gives ``round(v * 65535 / m)``, the values of a prepared 16-bit PNG, to the digit.
* A private tag holds a CRC-32 of each tile's compressed bytes, so that damage is noticed. Files without it are not
  read here.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

from mammo_d2.data.reading.image_meta import FULL_SCALE_8_BIT, FULL_SCALE_16_BIT, ImageReadError
from mammo_d2.data.reading.size_limits import check_size

TILE = 256
_ZSTD, _PREDICTOR = 50000, 2
_CHECKSUMS = 65433
_LEVEL = 1
# TIFF's types of whole numbers: bytes of each, and the letter of ``struct``.
_TYPES = {1: (1, "B"), 3: (2, "H"), 4: (4, "I"), 16: (8, "Q")}
_COPY_AGAIN = "prepare it again, or copy it again from its source"


def scale_to_16_bit(pixels: np.ndarray, max_value: float) -> np.ndarray:
    """float32 pixels in 0..``max_value`` as whole numbers of the 16-bit range, float32: round(v * 65535 / max_value).

    Steps of 12 bits stay 16 apart, so nothing is lost.
    """
    scaled: np.ndarray = pixels * (FULL_SCALE_16_BIT / max_value)
    return np.clip(np.rint(scaled, out=scaled), 0, FULL_SCALE_16_BIT, out=scaled)


def unscaled(stored: np.ndarray, max_value: float) -> tuple[np.ndarray, int]:
    """Undo ``scale_to_16_bit`` where that is exact for every pixel.

    Args:
        stored: (h, w) uint8 or uint16.
        max_value: full scale of the source.

    Returns:
        Pixels in 0..m and m; the pixels as they are and their type's largest value where it is not exact, as after a
        window or a change of size.
    """
    whole = int(np.iinfo(stored.dtype).max)
    top = round(max_value)
    if stored.dtype != np.uint16 or top != max_value or not 0 < top < whole:
        return stored, whole
    values = np.arange(whole + 1, dtype=np.float32)
    numbers = np.rint(values * np.float32(top / FULL_SCALE_16_BIT))
    exact = scale_to_16_bit(numbers, top) == values
    # A sample first: a windowed image is found out at once.
    if not exact[stored[::16, ::16]].all() or not exact[stored].all():
        return stored, whole
    return numbers.astype(np.uint16)[stored], top


def encode_tiff_tiles(stored: np.ndarray, max_value: float = FULL_SCALE_16_BIT) -> bytes:
    """Encode prepared pixels.

    Args:
        stored: (h, w) uint8 (full scale 255) or uint16 (full scale 65535).
        max_value: full scale of the source's own values, which are stored where that changes nothing.

    Returns:
        The file's content; the same for the same pixels.
    """
    import imagecodecs

    pixels, top = unscaled(stored, max_value)
    tiles = [
        bytes(imagecodecs.zstd_encode(imagecodecs.delta_encode(tile, axis=-1).tobytes(), _LEVEL))
        for tile in _tiles_of(pixels)
    ]
    height, width = pixels.shape
    tags = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [8 * pixels.itemsize]), (259, 3, [_ZSTD]), (262, 3, [1]),
        (277, 3, [1]), (281, 3, [top]), (317, 3, [_PREDICTOR]), (322, 3, [TILE]), (323, 3, [TILE]),
        (324, 4, [0] * len(tiles)), (325, 4, [len(tile) for tile in tiles]),
        (_CHECKSUMS, 4, [zlib.crc32(tile) for tile in tiles]),
    ]  # fmt: skip
    start = len(_directory(tags))
    ends = np.cumsum([start, *(len(tile) for tile in tiles)])
    if ends[-1] >= 2**32:
        raise ValueError(f"image of shape {stored.shape} is too large for TIFF (4 GB compressed)")
    tags[10] = (324, 4, ends[:-1].tolist())
    return b"".join([_directory(tags), *tiles])


def _tiles_of(pixels: np.ndarray) -> Iterator[np.ndarray]:
    """All tiles by rows; those at the right and lower edge are filled with the last column and row."""
    for top in range(0, pixels.shape[0], TILE):
        for left in range(0, pixels.shape[1], TILE):
            tile = pixels[top : top + TILE, left : left + TILE]
            missing = [(0, TILE - side) for side in tile.shape]
            yield np.pad(tile, missing, mode="edge") if tile.shape != (TILE, TILE) else np.ascontiguousarray(tile)


def _directory(tags: list[tuple[int, int, list[int]]]) -> bytes:
    """Header, the one directory, and the values that do not fit into it: all that comes before the tiles."""
    begin = 8 + 2 + 12 * len(tags) + 4
    entries, further = [], b""
    for tag, kind, values in tags:
        packed = struct.pack(f"<{len(values)}{_TYPES[kind][1]}", *values)
        if len(packed) > 4:
            packed, further = struct.pack("<I", begin + len(further)), further + packed + b"\0" * (len(packed) % 2)
        entries.append(struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0"))
    return b"".join([b"II*\0", struct.pack("<IH", 8, len(tags)), *entries, b"\0\0\0\0", further])


@dataclass(frozen=True)
class TiledPixels:
    """An image in tiles whose file is decoded as far as it is needed.

    Attributes:
        path: for messages.
        data: the file's content, in memory or mapped.
        shape: (height, width).
        dtype: of the stored pixels, uint8 or uint16.
        top: stored value that stands for full scale.
        offsets, counts, checksums: of each tile.
    """

    path: str
    data: bytes | mmap
    shape: tuple[int, int]
    dtype: np.dtype
    top: int
    offsets: list[int]
    counts: list[int]
    checksums: list[int]

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> TiledPixels | None:
        """The image of a file, of which nothing but the directory is read yet; None if it is no such file.

        Raises:
            FileNotFoundError: no such file.
            ImageReadError: cut off, or its directory is damaged.
        """
        with Path(path).open("rb") as stream:
            if stream.read(4) != b"II*\0":
                return None
            return cls.from_content(path, mmap(stream.fileno(), 0, access=ACCESS_READ))

    @classmethod
    def from_content(cls, path: str | os.PathLike[str], data: bytes | mmap) -> TiledPixels | None:
        """The image in a file's content; arguments and errors as of ``open``."""
        try:
            tags = tiff_tags(data)
        except struct.error:
            return None  # the reader of other TIFFs says what is wrong
        if _CHECKSUMS not in tags:
            return None
        try:
            (width,), (height,), (bits,), (top,) = (tags[tag] for tag in (256, 257, 258, 281))
            layout = [tags[tag] for tag in (259, 277, 317, 322, 323)]
            offsets, counts, checksums = (tags[tag] for tag in (324, 325, _CHECKSUMS))
        except (KeyError, ValueError) as error:
            raise ImageReadError(path, "damaged TIFF (its directory is incomplete)", _COPY_AGAIN) from error
        check_size(path, height, width)
        tiles = -(-height // TILE) * -(-width // TILE)
        if (
            layout != [[_ZSTD], [1], [_PREDICTOR], [TILE], [TILE]] or bits not in (8, 16) or not 0 < top < 1 << bits
            or not tiles or {len(offsets), len(counts), len(checksums)} != {tiles}
        ):  # fmt: skip
            raise ImageReadError(path, "damaged TIFF (its directory contradicts itself)", _COPY_AGAIN)
        end = max(offset + count for offset, count in zip(offsets, counts, strict=True))
        if end > len(data):
            raise ImageReadError(path, f"truncated TIFF ({len(data)} bytes, pixels end at {end})", _COPY_AGAIN)
        dtype = np.dtype("<u2" if bits == 16 else "u1")
        return cls(os.fspath(path), data, (height, width), dtype, top, offsets, counts, checksums)

    @property
    def max_value(self) -> float:
        """Full-scale value of the pixels that ``read`` gives: 255 or 65535."""
        return FULL_SCALE_8_BIT if self.dtype.itemsize == 1 else FULL_SCALE_16_BIT

    def read(self, top: int = 0, left: int = 0, bottom: int | None = None, right: int | None = None) -> np.ndarray:
        """float32 pixels of a window, by default of the whole image, in 0..``max_value``; only its tiles are decoded.

        Args:
            top, left: first row and column, not negative.
            bottom, right: row and column after the last; at most the image's size, which is the default.

        Raises:
            ImageReadError: a tile is damaged.
        """
        bottom, right = self.shape[0] if bottom is None else bottom, self.shape[1] if right is None else right
        pixels = np.empty((bottom - top, right - left), self.dtype)
        columns = -(-self.shape[1] // TILE)
        for row in range(top // TILE, -(-bottom // TILE)):
            for column in range(left // TILE, -(-right // TILE)):
                y, x = row * TILE, column * TILE
                inner = (max(top, y), min(bottom, y + TILE)), (max(left, x), min(right, x + TILE))
                (y0, y1), (x0, x1) = inner
                tile = self._tile(row * columns + column)
                pixels[y0 - top : y1 - top, x0 - left : x1 - left] = tile[y0 - y : y1 - y, x0 - x : x1 - x]
        values = pixels.astype(np.float32)
        if self.top == self.max_value:
            return values
        if pixels.size and int(pixels.max()) > self.top:
            raise ImageReadError(self.path, f"damaged TIFF (pixels beyond its maximum {self.top})", _COPY_AGAIN)
        return scale_to_16_bit(values, self.top)

    def _tile(self, number: int) -> np.ndarray:
        import imagecodecs

        start = self.offsets[number]
        packed = self.data[start : start + self.counts[number]]
        if zlib.crc32(packed) == self.checksums[number]:
            try:
                raw = imagecodecs.zstd_decode(packed, out=TILE * TILE * self.dtype.itemsize)
                return imagecodecs.delta_decode(np.frombuffer(raw, self.dtype).reshape(TILE, TILE), axis=-1)
            except (RuntimeError, ValueError):
                pass  # a right checksum of wrong data; what it unpacks to is limited to a tile
        raise ImageReadError(self.path, f"damaged TIFF (tile {number} of {len(self.offsets)})", _COPY_AGAIN)


def tiff_tags(data: bytes | mmap) -> dict[int, list[int]]:
    """Whole-number tags of the first image file directory, of classic TIFF and BigTIFF.

    Raises:
        struct.error: the directory reaches beyond the data.
    """
    head = data[:4]
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:] in (b"+\0", b"\0+")
    word, count_format, entry_size, inline = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    (position,) = struct.unpack_from(order + word, data, 8 if big else 4)
    (entries,) = struct.unpack_from(order + count_format, data, position)
    position += struct.calcsize(count_format)
    tags: dict[int, list[int]] = {}
    for _ in range(entries):
        tag, kind, count = struct.unpack_from(order + "HH" + word, data, position)
        size, letter = _TYPES.get(kind, (0, ""))
        start = position + entry_size - inline
        if size * count > inline:
            (start,) = struct.unpack_from(order + word, data, start)
        if letter:
            tags[tag] = list(struct.unpack_from(f"{order}{count}{letter}", data, start))
        position += entry_size
    return tags
