"""Patches of large images without decoding them: prepared pixels in memory-mapped files.

A PNG or DICOM of 3328×2560 pixels takes 0.1 s and more to decode, and there is no way to decode a part of it; an epoch
of the lesion classifier reads 10 000 patches, far more than there are images of the same lesion in memory. So each
image is decoded once and written as a plain ``.npy`` array, of which a patch reads its own rows and nothing else. The
operating system keeps the pages that are used and drops them when memory is short; worker processes share them, and a
process's own memory does not grow.

Of images prepared as TIFF in tiles (``mammo-d2 prepare --pixels tiff``) nothing is stored: a patch decodes the tiles
that it lies in, a millisecond or two, unless the intensity of a pixel depends on the whole image.

Pixels are kept as uint16, 0..255 in steps of 1/257: exact for 8- and 16-bit images, within 0.002 of 255 for others.
This costs 2 bytes a pixel on disk: 17 MB for 3328×2560.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.array_files import load_array
from mammo_d2.core.files import atomic_write
from mammo_d2.data.reading.image_meta import FULL_SCALE_16_BIT
from mammo_d2.data.reading.intensity import INPUT_FULL_SCALE, scale_intensity
from mammo_d2.data.reading.reader import read_image
from mammo_d2.data.reading.tiff_tiles import TiledPixels

# Steps of a stored pixel per unit of 0..255.
STEPS = FULL_SCALE_16_BIT / INPUT_FULL_SCALE
# Part of the key; changed when the stored values change.
_FORMAT = b"patch store 1"


class WindowedImage:
    """The pixels that a ``PatchStore`` would store, read window by window from a file in tiles.

    Args:
        tiles: the file.
    """

    def __init__(self, tiles: TiledPixels):
        self.shape = tiles.shape
        self._tiles = tiles

    def __getitem__(self, window: tuple[slice, slice]) -> np.ndarray:
        """uint16 pixels of slices of rows and columns, both with begin and end inside the image."""
        rows, columns = window
        pixels = self._tiles.read(rows.start, columns.start, rows.stop, columns.stop)
        return _to_stored(scale_intensity(pixels, self._tiles.max_value))


class PatchStore:
    """A folder of memory-mapped images, found by the content of the image file.

    A file that was changed or moved is therefore never mixed up with another. The folder may serve several data sets
    and runs and can be deleted at any time.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        intensity: str = "bit_depth",
        percentiles: Sequence[float] = (0.5, 99.5),
    ):
        """
        Args:
            folder: made when it is needed.
            intensity, percentiles: see ``scale_intensity``; part of the key.
        """
        self.folder = Path(folder)
        self.intensity, self.percentiles = intensity, tuple(percentiles)
        # File name -> key: an image file is hashed once per store object, not once per patch.
        self._keys: dict[str, str] = {}

    def key(self, record: Mapping[str, Any]) -> str:
        """Hash of the image file's content and of how its intensity is scaled.

        Raises:
            FileNotFoundError: no such image file.
        """
        name = str(record["file_name"])
        known = self._keys.get(name)
        if known is None:
            known = self._keys[name] = self._hash(name, record)
        return known

    def path(self, record: Mapping[str, Any]) -> Path:
        """The stored file of a record's image, made if it is not there.

        Raises:
            FileNotFoundError: no such image file.
            ValueError: it cannot be read, or is not of the record's size.
        """
        key = self.key(record)
        path = self.folder / key[:2] / f"{key}.npy"
        if not path.is_file():
            pixels, meta = read_image(record["file_name"])
            _check_size(pixels.shape, record)
            scaled = scale_intensity(pixels, meta.max_value, self.intensity, self.percentiles)
            # Several ranks may do this at the same time: each writes its own file and moves it into place.
            temporary = path.with_suffix(f".{os.getpid()}")
            with atomic_write(temporary, durable=False) as file:
                np.save(file, _to_stored(scaled))
            os.replace(temporary, path)
        return path

    def _hash(self, name: str, record: Mapping[str, Any]) -> str:
        try:
            digest = hashlib.blake2b(_FORMAT + repr((self.intensity, self.percentiles)).encode(), digest_size=16)
            with open(name, "rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        except FileNotFoundError:
            raise FileNotFoundError(_no_file(name, record)) from None
        return digest.hexdigest()

    def open(self, record: Mapping[str, Any]) -> np.ndarray | WindowedImage:
        """The image (H, W) uint16, not read yet.

        Raises:
            FileNotFoundError, ValueError: as ``path``; the stored file is damaged or not of the record's size.
        """
        image: np.ndarray | WindowedImage
        tiles = self._tiles(record)
        if tiles is not None:
            image = WindowedImage(tiles)
        else:
            image = load_array(self.path(record), "delete it: it is made again", mmap_mode="r")
        _check_size(image.shape, record)
        return image

    def _tiles(self, record: Mapping[str, Any]) -> TiledPixels | None:
        """The image file, if windows of it can be read and their intensity needs nothing of the rest."""
        if self.intensity != "bit_depth":
            return None
        name = str(record["file_name"])
        try:
            return TiledPixels.open(name)
        except FileNotFoundError:
            raise FileNotFoundError(_no_file(name, record)) from None

    def read_patch(
        self, record: Mapping[str, Any], window: Sequence[float], size: int, rotation: float = 0.0
    ) -> np.ndarray:
        """A window resized to ``size`` × ``size``; see ``cut_patch``."""
        return cut_patch(self.open(record), window, size, rotation)


def cut_patch(
    image: np.ndarray | WindowedImage, window: Sequence[float], size: int, rotation: float = 0.0
) -> np.ndarray:
    """Cut a square window out of a stored image, turn it about its centre and resize it.

    Without rotation the pixels are averaged over areas where they shrink (small bright calcifications keep what they
    contribute) and interpolated where they grow. With rotation what comes in at the corners is the image's own, not
    black.

    Args:
        image: (H, W) uint16 of a ``PatchStore``.
        window: XYXY, whole pixels; may reach beyond the image, which is 0 there.
        size: side of the result.
        rotation: degrees by which the picture turns, counter-clockwise on the screen.

    Returns:
        (size, size) float32 in 0..255.
    """
    x0, y0, x1, y1 = (round(float(edge)) for edge in window)
    if not rotation:
        upright: np.ndarray = _read(image, x0, y0, x1, y1).astype(np.float32)
        if upright.shape != (size, size):
            method = cv2.INTER_AREA if upright.shape[0] > size else cv2.INTER_LINEAR
            upright = cv2.resize(upright, (size, size), interpolation=method)
        return upright * np.float32(1 / STEPS)
    side, angle = x1 - x0, np.deg2rad(rotation)
    # The turned window lies within this distance of the old one's border; one more pixel for the interpolation.
    margin = int(np.ceil(side / 2 * (abs(np.cos(angle)) + abs(np.sin(angle)) - 1))) + 1
    part: np.ndarray = _read(image, x0 - margin, y0 - margin, x1 + margin, y1 + margin)
    # Bilinear sampling skips pixels where it shrinks, so the part is averaged to the final resolution first.
    factor = min(1.0, size / side)
    if factor < 1.0:
        reduced = max(1, round(part.shape[0] * factor))
        factor = reduced / part.shape[0]
        part = cv2.resize(part, (reduced, reduced), interpolation=cv2.INTER_AREA)
    # From pixel centres of the result to pixel centres of the part.
    step = side * factor / size
    cos, sin = np.cos(angle) * step, np.sin(angle) * step
    matrix = np.array([[cos, -sin, 0.0], [sin, cos, 0.0]])
    centre = part.shape[0] / 2 - 0.5
    matrix[:, 2] = centre - matrix[:, :2] @ np.full(2, size / 2 - 0.5)
    turned = cv2.warpAffine(
        part, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REPLICATE
    )
    return turned.astype(np.float32) * np.float32(1 / STEPS)


def _to_stored(scaled: np.ndarray) -> np.ndarray:
    """uint16 steps of pixels in 0..255."""
    return np.rint(scaled * STEPS).astype(np.uint16)


def _no_file(name: str, record: Mapping[str, Any]) -> str:
    return (
        f"image {record.get('image_id')!r}, {name}: no such image file; check the annotation file and the image folder"
    )


def _read(image: np.ndarray | WindowedImage, x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Pixels of a window as a new uint16 array, 0 beyond the image."""
    height, width = image.shape
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
    part = np.zeros((y1 - y0, x1 - x0), np.uint16)
    if right > left and bottom > top:
        part[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    return part


def _check_size(shape: tuple[int, ...], record: Mapping[str, Any]) -> None:
    if shape != (record["height"], record["width"]):
        raise ValueError(
            f"image {record.get('image_id')!r}, {record['file_name']}: the file has {shape[0]}x{shape[1]} pixels "
            f"(height x width), its record says {record['height']}x{record['width']}; prepare the data set again"
        )
