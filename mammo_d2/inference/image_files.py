"""The image files of a prediction: those named, and those in folders."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mammo_d2.data.reading.dicom.dicom_file import is_dicom
from mammo_d2.data.reading.reader import IMAGE_SUFFIXES

# What a key of the config looks like, where a file is expected.
_CONFIG_KEY = re.compile(r"[A-Z][A-Z0-9_]*(\.[A-Z0-9_]+)+")


@dataclass(frozen=True)
class FoundFiles:
    """Image files, each once.

    Attributes:
        files: in the order of the inputs, those of a folder sorted by name.
        links: further names of a file, by symbolic or hard links, with the name that is among ``files``.
    """

    files: list[str]
    links: Mapping[str, str]


def find_images(inputs: Iterable[str | os.PathLike]) -> FoundFiles:
    """Image files named directly or lying in folders (with all sub-folders), each once.

    A file named directly is always taken. In folders, files are taken that end like an image or are DICOM files by
    their content; hidden ones and the tables of contents of DICOM media (DICOMDIR) are not. A file that is named twice
    by the same path is no link.

    Raises:
        FileNotFoundError: an input does not exist.
        ValueError: there is no image file in any of them.
    """
    places = [Path(item) for item in inputs]
    files: dict[tuple[int, int] | Path, str] = {}
    links: dict[str, str] = {}
    for place in places:
        if not place.exists():
            hint = "write -- between --input and KEY VALUE overrides" if _CONFIG_KEY.fullmatch(str(place)) else ""
            raise FileNotFoundError(f"{place}: no such file or folder; {hint or 'check the input'}")
        for path in sorted(_images_under(place)) if place.is_dir() else [place]:
            first = files.setdefault(_identity(path), str(path))
            if os.path.abspath(first) != os.path.abspath(path):
                links[str(path)] = first
    if not files:
        named = ", ".join(map(str, places))
        raise ValueError(f"{named}: there is no image file in it ({', '.join(IMAGE_SUFFIXES)} or DICOM)")
    return FoundFiles(list(files.values()), links)


def split_overrides(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Words of a command line: images and folders, then from the first config key on the KEY VALUE overrides."""
    first = next((number for number, word in enumerate(words) if _CONFIG_KEY.fullmatch(word)), len(words))
    return list(words[:first]), list(words[first:])


def find_image_files(inputs: Iterable[str | os.PathLike]) -> list[str]:
    """The ``files`` of ``find_images``."""
    return find_images(inputs).files


def _identity(path: Path) -> tuple[int, int] | Path:
    """What all names of a file have in common."""
    found = path.stat()
    return (found.st_dev, found.st_ino) if found.st_ino else path.resolve()


def _images_under(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        skipped = path.name == "DICOMDIR" or any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not skipped and path.is_file() and (path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path)):
            yield path
