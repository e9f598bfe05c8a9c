"""Images and maps of the viewer as text: windowed to 8 bits, grey JPEG (maps: PNG), base64.

Measured on 8 CBIS-DDSM films of 800 x 480 and 6 phantoms of about 500 x 250 pixels: JPEG of quality 90 takes 31 and
29 kB an image (PSNR 51 and 40 dB) and 0.7 ms to write; WebP of quality 90 takes 16 and 24 kB (47 and 42 dB), 23 ms, and
has 220 grey values where JPEG has 256; PNG takes 81 and 68 kB.
"""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.array_files import load_arrays
from mammo_d2.data.reading.reader import read_image
from mammo_d2.pictures.drawing import encode_png, to_display
from mammo_d2.report.html import data_block
from mammo_d2.report.viewer.viewed_data import ViewedDataset

JPEG_QUALITY = 90

logger = logging.getLogger(__name__)


def encode_jpeg(picture: np.ndarray) -> bytes:
    """A grey picture (H, W) uint8 as the bytes of a JPEG file."""
    done, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} cannot be written as JPEG")
    return data.tobytes()


def image_blocks(datasets: Sequence[ViewedDataset], data: Mapping[str, Any], side: int | None = None) -> Iterator[str]:
    """HTML of the images and maps that the viewer's JSON names, one image at a time.

    An image that cannot be read has a block without text that says why, and is logged.

    Args:
        datasets: those that ``data`` was made of.
        data: of ``viewer_data``.
        side: longest side of the pixels; a larger image is shrunk. None: as they are.
    """
    records = [(dataset, row, record) for dataset in datasets for row, record in enumerate(dataset.records)]
    arrays = _Arrays()
    names = [system["name"] for system in data["systems"]]
    for n, (dataset, row, record) in enumerate(records):
        if data["images"][n]["px"] is None:
            continue
        try:
            jpeg = dataset.pictures.get(record["image_id"])
            if jpeg is None:
                jpeg = encode_jpeg(to_display(read_image(record["file_name"])[0], side))
            yield data_block(f"px-{n}", "image/jpeg", base64.b64encode(jpeg).decode("ascii"))
        except (OSError, ValueError) as error:
            logger.warning("viewer: image %s left out: %s", record["image_id"], error)
            yield data_block(f"px-{n}", "image/jpeg", "", str(error) or type(error).__name__)
        for system in dataset.systems:
            if not system.maps or system.maps[row] is None:
                continue
            maps = arrays.of(system.maps[row], str(record["image_id"]))
            for label, channel in enumerate(system.channels or range(len(dataset.classes))):
                png = encode_png(as_grey(maps[channel])) if maps is not None and channel < len(maps) else b""
                text = base64.b64encode(png).decode("ascii")
                identifier = f"map-{n}-{names.index(system.name)}-{label}"
                yield data_block(identifier, "image/png", text, "" if png else "no map")


def as_grey(values: np.ndarray) -> np.ndarray:
    """(h, w) in [0, 1] as uint8."""
    return np.rint(np.clip(values.astype(np.float32), 0, 1) * 255).astype(np.uint8)


class _Arrays:
    """The arrays of the latest files of maps: those of an evaluation are read one image after the other."""

    most = 5

    def __init__(self) -> None:
        self._files: dict[Path, dict[str, np.ndarray]] = {}

    def of(self, path: Path | None, name: str) -> np.ndarray | None:
        if path is None:
            return None
        if path not in self._files:
            if len(self._files) >= self.most:
                self._files.pop(next(iter(self._files)))
            self._files[path] = load_arrays(path, "evaluate the run again")
        return self._files[path].get(name)
