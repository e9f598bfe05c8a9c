"""One pass over the pixels of a data set: unreadable files, odd images, equal and similar images of other patients."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mammo_d2.core.processes.crash_safe import CrashSafeMap
from mammo_d2.data.breast.mask import breast_mask
from mammo_d2.data.breast.orientation import image_problems, presence_problem
from mammo_d2.data.format.image_check import add_unreadable, add_wrong_size
from mammo_d2.data.format.problems import Report
from mammo_d2.data.reading.reader import read_image
from mammo_d2.data.review.fingerprint import Fingerprint, fingerprint
from mammo_d2.data.review.near_duplicates import near_duplicates

_REMEDY = "look at the two images; if they are one, give them one patient_id and put them into one split, or drop one"


@dataclass(frozen=True)
class ReviewedImage:
    """One image record and the file that it is in.

    Attributes:
        file: name of the COCO file.
        record: its image record.
        path: of the image file.
    """

    file: str
    record: Mapping[str, Any]
    path: Path

    @property
    def name(self) -> str:
        """How messages call it."""
        return f"image {self.record.get('id')}"


@dataclass(frozen=True)
class SimilarPair:
    """Two images that are nearly the same, of different patients or in different splits."""

    first: ReviewedImage
    second: ReviewedImage
    shared_structures: int


@dataclass
class PixelReview:
    """What the pass found.

    Attributes:
        report: problems.
        pairs: near-duplicates among them.
        read: images that could be read.
    """

    report: Report = field(default_factory=Report)
    pairs: list[SimilarPair] = field(default_factory=list)
    read: int = 0


@dataclass(frozen=True)
class _Look:
    """What a worker saw in one file."""

    size: tuple[int, int] = (0, 0)
    print: Fingerprint | None = None
    problem: str = ""
    doubts: tuple[str, ...] = ()


def images_of(file: str, data: Mapping[str, Any], root: str | os.PathLike[str]) -> list[ReviewedImage]:
    """The image records of one COCO file whose files exist."""
    named = [image for image in data["images"] if isinstance(image.get("file_name"), str)]
    images = [ReviewedImage(file, image, Path(root) / image["file_name"]) for image in named]
    return [image for image in images if image.path.is_file()]


def review_pixels(
    images: Sequence[ReviewedImage], *, workers: int = 0, near: bool = True, progress: bool = False
) -> PixelReview:
    """Read every image, and compare all of them with each other.

    Images with the same pixels in two splits are an error, those of two patients in one split, near-duplicates, and
    images that seem to show no breast, or to be inverted or rotated, a warning.

    Args:
        images: of all splits.
        workers: processes; 0: this one.
        near: look for near-duplicates, too.
        progress: show a progress bar.
    """
    review = PixelReview()
    kept: list[tuple[ReviewedImage, Fingerprint]] = []
    looks = _looks([image.path for image in images], workers)
    for image, look in zip(images, tqdm(looks, "validate", len(images), unit="image", disable=not progress or None),
                           strict=True):  # fmt: skip
        if look.print is None:
            add_unreadable(review.report, image.file, image.record, look.problem)
            continue
        review.read += 1
        add_wrong_size(review.report, image.file, image.record, look.size)
        for doubt in look.doubts:
            message, _, remedy = doubt.rpartition("; ")
            review.report.add(
                "warning", "odd-image", image.file, image.name, "file_name", image.record["file_name"], message, remedy
            )
        kept.append((image, look.print))
    _same_pixels(kept, review.report)
    if near:
        for i, j, shared in near_duplicates([print for _, print in kept]):
            pair = SimilarPair(kept[i][0], kept[j][0], shared)
            if kept[i][1].sha256 == kept[j][1].sha256 or not _apart(pair.first, pair.second):
                continue
            review.pairs.append(pair)
            where = f"{pair.second.record['file_name']!r} of {_place(pair.first, pair.second)}"
            review.report.add(
                "warning", "near-duplicate", pair.first.file, pair.first.name, "file_name",
                pair.first.record["file_name"],
                f"nearly the same image as {where} ({shared} structures agree)", _REMEDY,
            )  # fmt: skip
    return review


def _looks(paths: Sequence[Path], workers: int) -> Iterable[_Look]:
    if workers == 0:
        return map(_look, paths)
    crashed = partial(_Look, problem="the process that read the image ended without a message; prepare it again")
    return CrashSafeMap(_look, lambda path: crashed(), workers)(paths)


def _look(path: Path) -> _Look:
    try:
        pixels, _ = read_image(path)
        nothing = presence_problem(pixels, breast_mask(pixels))
        # Whether it was mirrored or padded cannot be seen in a prepared image, which may be on purpose.
        doubts = [nothing] if nothing else image_problems(pixels, None)
        return _Look((pixels.shape[0], pixels.shape[1]), fingerprint(pixels), doubts=tuple(doubts))
    except (ValueError, OSError) as error:
        return _Look(problem=str(error))


def _same_pixels(kept: Sequence[tuple[ReviewedImage, Fingerprint]], report: Report) -> None:
    first: dict[str, ReviewedImage] = {}
    for image, print in kept:
        other = first.setdefault(print.sha256, image)
        if other is image:
            continue
        level, code = ("error", "split-leak") if other.file != image.file else ("warning", "same-pixels")
        report.add(
            level, code, image.file, image.name, "file_name", image.record["file_name"],
            f"the same pixels as {other.record['file_name']!r} of {_place(image, other)}", _REMEDY,
        )  # fmt: skip


def _apart(first: ReviewedImage, second: ReviewedImage) -> bool:
    """Whether two images are in different splits or of different, or unknown, patients."""
    patients = {first.record.get("patient_id"), second.record.get("patient_id")}
    return first.file != second.file or len(patients) > 1 or None in patients


def _place(here: ReviewedImage, other: ReviewedImage) -> str:
    return "this file" if other.file == here.file else other.file
