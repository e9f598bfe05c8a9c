"""The check of the image files behind a COCO file: there, whole, and of the size that the record says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mammo_d2.data.format.problems import Report
from mammo_d2.data.reading.reader import image_size, read_image


def check_image_files(
    images: Iterable[Mapping[str, Any]], image_root: str | os.PathLike[str], how: str, file: str
) -> Report:
    """Check each image's file.

    Args:
        images: the COCO file's image records.
        image_root: folder that ``file_name`` is relative to.
        how: "exists", "size" (header only) or "full" (decode).
        file: name of the COCO file for the messages.
    """
    report = Report()
    images = list(images)
    exist = existing_files(image_root, [name for image in images if isinstance(name := image.get("file_name"), str)])
    for image in images:
        file_name = image.get("file_name")
        if not isinstance(file_name, str):
            continue
        if file_name not in exist:
            add_missing(report, file, image, image_root)
            continue
        if how == "exists":
            continue
        path = Path(image_root) / file_name
        try:
            size = image_size(path) if how == "size" else read_image(path)[0].shape
        except (ValueError, OSError) as error:
            add_unreadable(report, file, image, str(error))
            continue
        add_wrong_size(report, file, image, size)
    return report


def existing_files(image_root: str | os.PathLike[str], names: Sequence[str]) -> set[str]:
    """Those of some file names under ``image_root`` that are files, or links to files.

    A folder with many of them is listed at once. What is not in the list is looked at by itself, for file systems to
    which "A.png" and "a.png" are the same.
    """
    root = str(image_root)
    by_folder: dict[str, list[str]] = {}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    found: set[str] = set()
    for folder, inside in by_folder.items():
        listed: set[str] = set()
        if len(inside) >= _LEAST_TO_LIST:
            with suppress(OSError, ValueError), os.scandir(os.path.join(root, folder)) as entries:
                listed = {entry.name for entry in entries if entry.is_file()}
        for name in inside:
            if name.rpartition("/")[2] in listed or _is_file(os.path.join(root, name)):
                found.add(name)
    return found


# A folder may hold many more files than those that are asked for. Four images are found as fast as they are listed.
_LEAST_TO_LIST = 4


def _is_file(path: str) -> bool:
    try:
        return os.path.isfile(path)
    except ValueError:  # a zero byte
        return False


def add_missing(report: Report, file: str, image: Mapping[str, Any], image_root: str | os.PathLike[str]) -> None:
    """Report an image without file."""
    report.add(
        "error", "missing-image", file, f"image {image.get('id')}", "file_name", image.get("file_name"),
        f"no such file under {image_root}", "check the image folder, or prepare the data set again",
    )  # fmt: skip


def add_unreadable(report: Report, file: str, image: Mapping[str, Any], problem: str) -> None:
    """Report an image whose file cannot be read."""
    report.add(
        "error", "unreadable-image", file, f"image {image.get('id')}", "file_name", image.get("file_name"), problem,
        "prepare the image again",
    )  # fmt: skip


def add_wrong_size(report: Report, file: str, image: Mapping[str, Any], size: Sequence[int]) -> None:
    """Report an image whose file has another (height, width) than its record; nothing if they agree."""
    stated = [image.get("height"), image.get("width")]
    if list(size) != stated:
        report.add(
            "error", "wrong-size", file, f"image {image.get('id')}", "height, width", stated,
            f"the file has height {size[0]} and width {size[1]}", "correct the record; boxes use the file's pixels",
        )  # fmt: skip
