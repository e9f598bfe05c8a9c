"""The check of the image files behind a COCO file: there, whole, and of the size that the record says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
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
    for image in images:
        name, file_name = f"image {image.get('id')}", image.get("file_name")
        if not isinstance(file_name, str):
            continue
        path = Path(image_root) / file_name
        if not path.is_file():
            report.add(
                "error", "missing-image", file, name, "file_name", file_name, f"no such file under {image_root}",
                "check the image folder, or prepare the data set again",
            )  # fmt: skip
            continue
        if how == "exists":
            continue
        try:
            size = image_size(path) if how == "size" else read_image(path)[0].shape
        except (ValueError, OSError) as error:
            add_unreadable(report, file, image, str(error))
            continue
        add_wrong_size(report, file, image, size)
    return report


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
