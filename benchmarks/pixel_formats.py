"""Formats for prepared pixels on your own images: encode, decode, a window, bytes; CPU seconds, contenders in turns.

Every format is lossless, and each decoded image is compared with what was encoded. "16 bits" are the values that
``prepare`` writes as PNG (the whole 16-bit range), "own bits" the source's own values where these give them exactly.
The last rows are what ``prepare`` writes and ``read_image`` gives, float32 pixels with all checks; for
these rows alone files are written to a temporary folder.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np

from mammo_d2.data.prepare.prepared_image import ImageOptions, prepare_pixels
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.data.reading.reader import read_image
from mammo_d2.data.reading.tiff_tiles import TiledPixels, encode_tiff_tiles, unscaled

TILE, WINDOW = 256, 512


@dataclass(frozen=True)
class PixelFormat:
    """A contender; ``encode`` and ``decode`` take and give whole images or, of tiled ones, single tiles."""

    name: str
    encode: Callable[[np.ndarray], Any]
    decode: Callable[[Any, np.ndarray], Any]
    tiled: bool = False


def _png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()


def _delta(encode: Callable[..., Any], level: int) -> Callable[[np.ndarray], Any]:
    return lambda image: encode(imagecodecs.delta_encode(image, axis=-1), level)


def _undelta(decode: Callable[..., Any]) -> Callable[[Any, np.ndarray], Any]:
    def decoded(data: Any, like: np.ndarray) -> Any:
        raw = np.frombuffer(decode(data, out=like.nbytes), like.dtype).reshape(like.shape)
        return imagecodecs.delta_decode(raw, axis=-1)

    return decoded


def _blosc(image: np.ndarray) -> Any:
    return imagecodecs.blosc2_encode(
        image.tobytes(), level=1, compressor="zstd", shuffle="bitshuffle", typesize=image.itemsize, numthreads=1
    )


FORMATS = (
    PixelFormat("PNG, level 1", _png, lambda data, like: cv2.imdecode(np.frombuffer(data, np.uint8), -1)),
    PixelFormat(
        "JPEG XL, effort 1",
        lambda image: imagecodecs.jpegxl_encode(
            image, lossless=True, effort=1, bitspersample=max(8, int(image.max()).bit_length()), numthreads=1
        ),
        lambda data, like: imagecodecs.jpegxl_decode(data, numthreads=1),
    ),
    PixelFormat("JPEG-LS", imagecodecs.jpegls_encode, lambda data, like: imagecodecs.jpegls_decode(data)),
    PixelFormat(
        "JPEG 2000 HT",
        lambda image: imagecodecs.htj2k_encode(image, reversible=True),
        lambda data, like: imagecodecs.htj2k_decode(data),
    ),
    PixelFormat(
        "blosc2 tiles (bit shuffle, zstd 1)",
        _blosc,
        lambda data, like: np.frombuffer(imagecodecs.blosc2_decode(data, numthreads=1), like.dtype).reshape(like.shape),
        tiled=True,
    ),
    PixelFormat(
        "TIFF tiles, differences, zstd 1",
        _delta(imagecodecs.zstd_encode, 1), _undelta(imagecodecs.zstd_decode), tiled=True,
    ),
    PixelFormat(
        "TIFF tiles, differences, deflate 1",
        _delta(imagecodecs.deflate_encode, 1), _undelta(imagecodecs.deflate_decode), tiled=True,
    ),
    PixelFormat(
        "uncompressed", lambda image: image.tobytes(),
        lambda data, like: np.frombuffer(data, like.dtype).reshape(like.shape), tiled=True,
    ),
)  # fmt: skip


def tiles_of(image: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """(row, column) of each tile and its pixels, those at the edges padded with the last row and column."""
    pad = [(0, -side % TILE) for side in image.shape]
    padded = np.pad(image, pad, mode="edge")
    places = [(y, x) for y in range(0, padded.shape[0], TILE) for x in range(0, padded.shape[1], TILE)]
    return {(y, x): np.ascontiguousarray(padded[y : y + TILE, x : x + TILE]) for y, x in places}


def measure(form: PixelFormat, image: np.ndarray) -> tuple[float, float, float, float]:
    """CPU seconds to encode, to decode and to read a window of 512 pixels from the middle; bytes."""
    parts = tiles_of(image) if form.tiled else {(0, 0): image}
    start = time.process_time()
    packed = {place: form.encode(part) for place, part in parts.items()}
    encoded = time.process_time()
    unpacked = {place: form.decode(data, parts[place]) for place, data in packed.items()}
    decoded = time.process_time()
    top, left = ((side - WINDOW) // 2 for side in image.shape)
    under = [
        (y, x) for y, x in packed
        if not form.tiled or (top - TILE < y < top + WINDOW and left - TILE < x < left + WINDOW)
    ]  # fmt: skip
    for place in under:
        form.decode(packed[place], parts[place])
    window = time.process_time()
    for place, part in unpacked.items():
        if not np.array_equal(np.asarray(part).reshape(parts[place].shape), parts[place]):
            raise ValueError(f"{form.name} is not lossless")
    return encoded - start, decoded - encoded, window - decoded, sum(map(len, packed.values()))


def whole(suffix: str, stored: np.ndarray, max_value: float) -> tuple[float, float, float, float]:
    """The same figures of the package's own writing and reading; a window of PNG is the whole image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        start = time.process_time()
        data = _png(stored) if suffix == ".png" else encode_tiff_tiles(stored, max_value)
        encoded = time.process_time()
        path.write_bytes(data)
        read = time.process_time()
        pixels = read_image(path)[0]
        decoded = time.process_time()
        tiles = TiledPixels.open(path) if suffix == ".tif" else None
        top, left = ((side - WINDOW) // 2 for side in stored.shape)
        if tiles is not None:
            tiles.read(top, left, top + WINDOW, left + WINDOW)
        window = time.process_time()
    if not np.array_equal(pixels, stored):
        raise ValueError(f"{suffix}: read_image gives other values")
    return encoded - start, decoded - read, (window if tiles else 2 * decoded - read) - decoded, len(data)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The benchmark's arguments."""
    parser.add_argument("images", nargs="+", type=Path, help="mammograms")
    parser.add_argument("--bits", type=int, default=0, help="used bits of 16-bit PNG files, e.g. 12")
    parser.add_argument("--repeats", type=int, default=3, help="the median is taken")
    parser.add_argument("--crop", action="store_true", help="cut out the breast first")


def run(args: argparse.Namespace) -> None:
    """Print a Markdown table: mean over the images of the median over the repeats."""
    cv2.setNumThreads(1)
    figures: dict[tuple[str, str], list[np.ndarray]] = {}
    for path in args.images:
        pixels, meta = read_image(path, ReadOptions(bits=0 if path.suffix == ".dcm" else args.bits))
        stored = prepare_pixels(pixels, meta, ImageOptions(crop=args.crop)).stored
        assert stored is not None
        own_bits, top = unscaled(stored, meta.max_value)
        print(f"{path.name}: {stored.shape} {stored.dtype}, stored in 0..{top}")
        runs: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
        for _ in range(args.repeats):
            for form in FORMATS:
                for kind, image in (("16 bits", stored), ("own bits", own_bits)):
                    runs.setdefault((form.name, kind), []).append(measure(form, image))
            for suffix in (".png", ".tif"):
                runs.setdefault((f"prepare and read {suffix}", ""), []).append(whole(suffix, stored, meta.max_value))
        for key, several in runs.items():
            figures.setdefault(key, []).append(np.median(several, axis=0))
    print("| format | values | encode ms | decode ms | window ms | MB | of PNG |\n|---|---|---|---|---|---|---|")
    png = np.mean(figures[FORMATS[0].name, "16 bits"], axis=0)
    for (name, kind), rows in figures.items():
        encode, decode, window, size = np.mean(rows, axis=0)
        print(f"| {name} | {kind} | {1e3 * encode:.0f} | {1e3 * decode:.0f} | {1e3 * window:.1f} | {size / 1e6:.2f} "
              f"| {encode / png[0]:.2f} / {decode / png[1]:.2f} / {size / png[3]:.2f} |")  # fmt: skip
