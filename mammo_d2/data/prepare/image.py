"""Preparing one image of a data set: read, prepare, write, and reuse what an earlier run wrote (runs in a worker)."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mammo_d2.core.files import path_problem, read_json, sha256_bytes, sha256_file, write_bytes_atomic, write_json
from mammo_d2.data.converters.converter import Converter, SourceImage, set_unknown_apart
from mammo_d2.data.prepare.image_record import (
    annotation_record,
    check_records,
    image_record,
    usable_annotation,
    usable_facts,
)
from mammo_d2.data.prepare.prepared_image import PIXEL_FORMATS, ImageOptions, prepare_pixels
from mammo_d2.data.reading.image_meta import ImageMeta
from mammo_d2.data.reading.tiff_tiles import encode_tiff_tiles

logger = logging.getLogger(__name__)

# Increased when prepared files change for the same source and options; older files are then made again.
FORMAT_VERSION = 1
IMAGE_FOLDER = "images"
RECORD_FOLDER = "records"

# Seconds that a file must have been left alone for its size and time of change to stand for its content: a change in
# the same tick of a file system's clock (2 s on the coarsest) would not be seen. Git calls such files racy.
_SETTLED = 3.0


@dataclass(frozen=True)
class Issue:
    """Something about one image for the error table.

    Attributes:
        level: "error" (the image is skipped) or "warning".
        key: the image.
        file: its source.
        problem: what, with the remedy.
    """

    level: str
    key: str
    file: str
    problem: str


@dataclass
class Outcome:
    """Result of one image: its records, or an error.

    Attributes:
        key: of the source image.
        image: COCO image record without id, or None on error.
        annotations: COCO annotation records without ids, with "category" by name.
        issues: for the error table.
        reused: whether an earlier run's result was taken.
        split: the data set's own split of the image, if it has one.
    """

    key: str
    image: dict[str, Any] | None = None
    annotations: list[dict[str, Any]] = field(default_factory=list)
    issues: list[Issue] = field(default_factory=list)
    reused: bool = False
    split: str | None = None


def prepare_image(
    converter: Converter,
    source: SourceImage,
    options: ImageOptions,
    out: Path,
    force: bool = False,
    check_hashes: bool = False,
) -> Outcome:
    """Prepare one image and write it, unless an earlier run did so from the same file with the same options.

    A source file of the same size and time of change is taken to have the same bytes, unless it was changed within
    seconds of the earlier run. Errors of this image become an ``Issue``; nothing is raised.

    Args:
        converter: reads the image.
        source: the image.
        options: what is done to it.
        out: folder of the prepared data set.
        force: reuse nothing.
        check_hashes: read the source and the prepared file, and reuse the result only if their hashes are the same.
    """
    outcome = Outcome(source.key, split=source.split)
    try:
        if source.problem:
            raise ValueError(source.problem)
        check_key(source)
        record_path = out / RECORD_FOLDER / f"{source.key}.json"
        state = _file_state(source.path)
        kept = {} if force else _kept_record(record_path)
        sha = kept["image"]["source"]["sha256"] if kept and state and kept.get("state") == state else ""
        if not sha or check_hashes:
            sha = sha256_file(source.path)
        fingerprint = _fingerprint(converter, source, options, sha)
        if kept.get("fingerprint") == fingerprint and _is_whole(kept["image"], out, check_hashes):
            outcome.image, outcome.annotations, outcome.reused = kept["image"], kept["annotations"], True
            outcome.issues = [Issue(**issue) for issue in kept["issues"]]
            if kept.get("state") != state:
                write_json(record_path, {**kept, "state": state}, indent=None, durable=False)
            return outcome
        pixels, meta = converter.read(source)
        complete = set_unknown_apart(converter.complete(source, pixels, meta))
        _convert(complete, pixels, meta, options, out, sha, outcome)
        issues = [asdict(issue) for issue in outcome.issues]
        made = {"image": outcome.image, "annotations": outcome.annotations, "issues": issues}
        write_json(record_path, {"fingerprint": fingerprint, "state": state, **made}, indent=None, durable=False)
    # Decoders raise errors of every kind for damaged files; one file must not end the run.
    except Exception as error:
        logger.debug("%s", source.path, exc_info=True)
        issue = Issue("error", source.key, str(source.path), _text(source, error))
        outcome = Outcome(source.key, issues=[issue], split=source.split)
    return outcome


def _text(source: SourceImage, error: Exception) -> str:
    """The message of an error in one line that names the file."""
    text = " ".join(str(error).split())
    if isinstance(error, FileNotFoundError) and error.filename == str(source.path):
        text = f"{source.path}: no such file; fetch it, or correct the table that names it"
    if isinstance(error, MemoryError):
        text = text or "not enough memory; use fewer workers"
    elif not isinstance(error, (ValueError, OSError)) or not text:
        text = f"{type(error).__name__}{': ' if text else ''}{text}; the file is damaged or too large: leave it out"
    named = str(source.path) in text or source.problem or source.path.name in text
    return text if named else f"{source.path}: {text}"


def check_key(source: SourceImage) -> None:
    """Check that the files of an image come to lie within the data set's folders.

    Raises:
        ValueError: they would not; identifiers of the source are part of the key.
    """
    problem = path_problem(source.key)
    if problem:
        raise ValueError(
            f"{source.path}: the image would be called {source.key!r}, which {problem}; correct the identifiers in the "
            "source's tables or tags"
        )


def _fingerprint(converter: Converter, source: SourceImage, options: ImageOptions, sha: str) -> str:
    """Hash of everything the result depends on; where the file lies does not matter."""
    not_in_results = ["path", "split", "problem", "exam_time", *([] if source.kinds else ["kinds"])]
    facts = {
        "version": FORMAT_VERSION,
        "converter": converter.name,
        "source": {k: v for k, v in asdict(source).items() if k not in not_in_results},
        "options": {k: v for k, v in asdict(options).items() if (k, v) != ("pixels", "png")},
        "read": asdict(converter.read_options),
        "sha256": sha,
    }
    return sha256_bytes(json.dumps(facts, sort_keys=True, default=str).encode())


def _file_state(path: Path) -> list[int] | None:
    """[bytes, time of change in ns] of a file; None if it was changed too recently to tell later changes by them."""
    found = path.stat()
    if time.time() - found.st_mtime < _SETTLED:
        return None
    return [found.st_size, found.st_mtime_ns]


def _kept_record(path: Path) -> dict[str, Any]:
    """What an earlier run wrote about an image; empty if there is nothing usable."""
    try:
        kept = read_json(path)
        usable = isinstance(kept["image"]["source"]["sha256"], str) and isinstance(kept["annotations"], list)
        [Issue(**issue) for issue in kept["issues"]]
        return kept if usable else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _is_whole(image: dict[str, Any], out: Path, check_hash: bool) -> bool:
    """Whether the prepared file is there with the size, and if asked for the hash, of its record."""
    try:
        written = out / IMAGE_FOLDER / image["file_name"]
        if written.stat().st_size != image["source"]["prepared_bytes"]:
            return False
        return not check_hash or sha256_file(written) == image["source"]["prepared_sha256"]
    except (OSError, KeyError, TypeError):
        return False


def _convert(
    source: SourceImage,
    pixels: np.ndarray,
    meta: ImageMeta,
    options: ImageOptions,
    out: Path,
    sha: str,
    outcome: Outcome,
) -> None:
    """Prepare the pixels and write them; the records go into ``outcome``."""

    def warn(problem: str) -> None:
        outcome.issues.append(Issue("warning", source.key, str(source.path), problem))

    for warning in meta.warnings:
        warn(warning)
    source = usable_facts(source, warn)
    size = (pixels.shape[0], pixels.shape[1])
    annotations = [usable_annotation(a, size, n, warn) for n, a in enumerate(source.annotations, start=1)]
    lesions = [a.bbox for a in annotations if a.bbox is not None]
    prepared = prepare_pixels(pixels, meta, options, lesions, source.pixel_spacing, source.laterality)
    for warning in prepared.warnings:
        warn(warning)
    file_name, prepared_sha, prepared_bytes = _write(source, prepared.stored, meta.max_value, options, out)
    outcome.annotations = [annotation_record(a, prepared.transform) for a in annotations]
    outcome.image = image_record(
        source, prepared, file_name, {"sha256": sha, "prepared_sha256": prepared_sha, "prepared_bytes": prepared_bytes}
    )
    check_records(outcome.image, outcome.annotations)


def _write(
    source: SourceImage, stored: np.ndarray | None, max_value: float, options: ImageOptions, out: Path
) -> tuple[str, str, int]:
    """Write the prepared image, or refer to the source file; its file name under the image folder, hash and size."""
    folder = out / IMAGE_FOLDER
    if stored is None:
        file_name = source.key + source.path.suffix
        target = folder / file_name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.symlink_to(source.path.resolve())
        return file_name, sha256_file(source.path), source.path.stat().st_size
    file_name = source.key + PIXEL_FORMATS[options.pixels]
    if options.pixels == "tiff":
        data = encode_tiff_tiles(stored, max_value)
    else:
        ok, encoded = cv2.imencode(".png", stored, [cv2.IMWRITE_PNG_COMPRESSION, options.png_level])
        if not ok:
            raise ValueError(f"PNG of shape {stored.shape} could not be encoded; report this")
        data = encoded.tobytes()
    write_bytes_atomic(folder / file_name, data)
    for suffix in set(PIXEL_FORMATS.values()) - {PIXEL_FORMATS[options.pixels]}:
        (folder / (source.key + suffix)).unlink(missing_ok=True)  # of a run with another format
    return file_name, sha256_bytes(data), len(data)
