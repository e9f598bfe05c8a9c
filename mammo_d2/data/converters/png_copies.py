"""PNG copies of data sets that come as DICOM: which file is which image, and whether it was squashed."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from mammo_d2.data.converters.converter import Converter, ConverterError
from mammo_d2.data.reading.image_meta import ImageReadError
from mammo_d2.data.reading.reader import read_image

_JOINED = re.compile(r"^([0-9a-f]+)_([0-9a-f]+)$", re.IGNORECASE)


def add_png_argument(parser: argparse.ArgumentParser) -> None:
    """The argument --pngs."""
    text = (
        "folder of a PNG copy, GROUP/IMAGE.png or GROUP_IMAGE.png at any depth, to be read instead of the DICOM files"
    )
    parser.add_argument("--pngs", type=Path, default=None, help=text)


def find_pngs(folder: str | os.PathLike[str]) -> dict[tuple[str, str], Path]:
    """(patient or study, image) -> file; both are in the file's name or the first is its folder's.

    Raises:
        FileNotFoundError: no such folder, or no PNG in it.
        ConverterError: an image is there twice, e.g. in two sizes.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; give the folder of the PNG copy")
    files: dict[tuple[str, str], Path] = {}
    for path in sorted(p for p in root.rglob("*.png") if not p.name.startswith(".")):
        joined = _JOINED.match(path.stem)
        key = (joined[1], joined[2]) if joined else (path.parent.name, path.stem)
        first = files.setdefault(key, path)
        if first != path:
            raise ConverterError(
                f"{path}: the image of {first} again, perhaps in another size; give one folder of them"
            )
    if not files:
        raise FileNotFoundError(f"{root}: no PNG files in it; give the folder of the PNG copy")
    return files


def note_squashed(converter: Converter, path: Path) -> None:
    """List it among what is skipped if a copy's image is square: detectors are not, so the copy was squashed."""
    try:
        meta = read_image(path)[1]
    except (ImageReadError, OSError):
        return  # reported when the image is prepared
    if meta.height == meta.width:
        why = f"{meta.width} x {meta.height} pixels: squashed to squares; --aspect 0.8 or the like restores the shape"
        converter.skip(path.parent, why)
