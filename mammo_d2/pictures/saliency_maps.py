"""Saliency maps of predicted files: a ``.npz`` file each, with classes and the way back to the source file's pixels."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mammo_d2.core.array_files import load_arrays
from mammo_d2.core.files import atomic_write
from mammo_d2.core.image_transform import ImageTransform

SALIENCY_FOLDER = "saliency"
_NAMES = ("saliency", "classes", "transform")


@dataclass(frozen=True)
class SaliencyMaps:
    """The maps of an image.

    Attributes:
        maps: (C, h, w) float32 in [0, 1]; they cover the prepared image.
        classes: the C classes.
        transform: how the prepared image came from the source file.
    """

    maps: np.ndarray
    classes: tuple[str, ...]
    transform: ImageTransform

    def on_source(self) -> np.ndarray:
        """(C, rows, columns) float32 on the pixels of the source file; 0 where nothing was predicted.

        Each pixel has the value of the map's cell that it lies in.
        """
        return self.transform.map_to_source(self.maps, nearest=True)


def write_saliency(
    folder: str | os.PathLike[str], number: int, name: str, maps: np.ndarray, classes: Sequence[str],
    transform: ImageTransform,
) -> Path:  # fmt: skip
    """Write the maps of a file; float16, compressed.

    Args:
        folder: of all results; the maps go to its sub-folder ``saliency``.
        number: of the file, from 1.
        name: of the file.
        maps, classes, transform: see ``SaliencyMaps``.

    Raises:
        ValueError: not one map per class.
    """
    if maps.ndim != 3 or len(maps) != len(classes):
        raise ValueError(f"{name}: saliency of shape {maps.shape} for {len(classes)} classes")
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem)
    path = Path(folder) / SALIENCY_FOLDER / f"{number:05d}_{stem}.npz"
    text = json.dumps(transform.to_dict())
    with atomic_write(path, durable=False) as file:
        np.savez_compressed(
            file, saliency=maps.astype(np.float16), classes=np.array(list(classes)), transform=np.array(text)
        )
    return path


def find_saliency(folder: str | os.PathLike[str], number: int) -> Path | None:
    """The maps of a file in a folder of results; None if there are none."""
    return next(iter(sorted((Path(folder) / SALIENCY_FOLDER).glob(f"{number:05d}_*.npz"))), None)


def read_saliency(path: str | os.PathLike[str]) -> SaliencyMaps:
    """Read the maps of a file.

    Raises:
        FileNotFoundError: no such file.
        ValueError: damaged, or another file.
    """
    remedy = "predict the file again with --saliency"
    arrays = load_arrays(path, remedy, _NAMES)
    if missing := [name for name in _NAMES if name not in arrays]:
        raise ValueError(f"{path}: has no {missing[0]}; {remedy}")
    maps, classes = arrays["saliency"].astype(np.float32), tuple(map(str, arrays["classes"].tolist()))
    if maps.ndim != 3 or len(maps) != len(classes) or not np.isfinite(maps).all():
        raise ValueError(f"{path}: saliency of shape {maps.shape} is not one finite map per class; {remedy}")
    try:
        transform = ImageTransform.from_dict(json.loads(str(arrays["transform"])))
    except ValueError as error:
        raise ValueError(f"{path}: {error}; {remedy}") from error
    return SaliencyMaps(maps, classes, transform)
