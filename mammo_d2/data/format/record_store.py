"""The records of one annotation file as a file of its own that is mapped into memory: ``<split>.records``.

A large JSON is read and checked once. Later starts, and every process of a job, map the store: pages are shared, and a
record is decoded when it is asked for. It holds the JSON's content, not what a config makes of it: the same store
serves any choice of classes. Images are ordered by id, the annotations of an image by id.

Layout: magic, arrays at multiples of 64 bytes, header (JSON in UTF-8), trailer. Nothing in it is executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np

# Increased when the layout or the meaning of an array changes; older stores are then made again.
STORE_VERSION = 1

_MAGIC = b"MAMMOREC"
# Offset, length and CRC-32 of the header, CRC-32 of the small arrays, magic.
_TRAILER = struct.Struct("<QQII8s")
_ALIGNMENT = 64
# The array that is not part of the checksum: a damaged record is found when it is decoded.
_RECORDS = "records"
# A file changed less than that many seconds before it was read may have been changed again within one tick of the file
# system's clock: its content is compared, too.
_RECENT = 2.0

#: Codes of ``labels``: 0 and 1 as in the file.
NULL, MISSING = -1, -2
#: Codes of ``laterality``.
SIDE_CODES = (None, "L", "R")
#: Bits of ``annotation_flags``.
IS_CROWD, IS_IGNORED = 1, 2


class BrokenStoreError(ValueError):
    """A store that is not whole, or of another version."""


@dataclass(frozen=True)
class SourceState:
    """What an annotation file looked like when it was read.

    Attributes:
        size: bytes.
        mtime_ns: time of the last change.
        digest: of the content; empty where size and time are enough to recognise the file.
    """

    size: int
    mtime_ns: int
    digest: str = ""

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> SourceState:
        """The state of a file now; with its digest if it has just been changed."""
        found = os.stat(path)
        recent = time.time() - found.st_mtime < _RECENT
        return cls(found.st_size, found.st_mtime_ns, _digest(path) if recent else "")

    def is_still_that_of(self, path: str | os.PathLike[str]) -> bool:
        """Whether the file is the one that was read."""
        found = os.stat(path)
        if (found.st_size, found.st_mtime_ns) != (self.size, self.mtime_ns):
            return False
        return not self.digest or self.digest == _digest(path)


def _digest(path: str | os.PathLike[str]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class RecordStore:
    """The content of one annotation file with n images.

    Attributes:
        source: the file's state when it was read.
        categories: its categories.
        warnings: texts of its first warnings.
        num_warnings: how many there are.
        label_names: the L names that occur in ``labels``.
        image_ids: (n,) int64.
        labels: (n, L) int8, 0, 1, ``NULL`` or ``MISSING``.
        laterality: (n,) int8, rows of ``SIDE_CODES``.
        exams: (n,) int64, rows of ``exam_keys``; -1 for images without exam and patient.
        annotation_ends: (n,) int64, end of each image's annotations in the next two.
        annotation_categories: (m,) int64, category ids of the file.
        annotation_flags: (m,) uint8, ``IS_CROWD`` and ``IS_IGNORED``.
        patient_hashes, content_hashes: sorted uint64 hashes of the patients, and of the source files' SHA-256.
    """

    def __init__(self, content: np.ndarray, path: Path | None = None):
        """
        Args:
            content: the store's bytes, uint8.
            path: the file that they are mapped from.

        Raises:
            BrokenStoreError: not a whole store of this version.
        """
        self._content, self.path = content, path
        header, self._arrays = _read_layout(content)
        self.source = SourceState(**header["source"])
        self.categories: list[dict[str, Any]] = header["categories"]
        self.warnings: list[str] = header["warnings"]
        self.num_warnings: int = header["num_warnings"]
        self.label_names: list[str] = header["label_names"]
        self.image_ids = self._arrays["image_ids"]
        self.labels = self._arrays["labels"]
        self.laterality = self._arrays["laterality"]
        self.exams = self._arrays["exams"]
        self.annotation_ends = self._arrays["annotation_ends"]
        self.annotation_categories = self._arrays["annotation_categories"]
        self.annotation_flags = self._arrays["annotation_flags"]
        self.patient_hashes = self._arrays["patient_hashes"]
        self.content_hashes = self._arrays["content_hashes"]

    @classmethod
    def map(cls, path: str | os.PathLike[str]) -> RecordStore:
        """Map a store into memory.

        Raises:
            OSError: the file cannot be read.
            BrokenStoreError: not a whole store of this version.
        """
        if os.path.getsize(path) < len(_MAGIC) + _TRAILER.size:
            raise BrokenStoreError(f"{path}: is cut off")
        try:
            return cls(np.asarray(np.memmap(path, np.uint8, "r")), Path(path))
        except BrokenStoreError as error:
            raise BrokenStoreError(f"{path}: {error}") from error

    def __reduce__(self):
        # A worker process that is not forked maps the file itself.
        return (RecordStore, (self._content,)) if self.path is None else (RecordStore.map, (self.path,))

    def __len__(self) -> int:
        return len(self.image_ids)

    def entry(self, row: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Image and annotations of a row, as they are in the file after ``load_coco``.

        Raises:
            BrokenStoreError: the record is damaged.
        """
        text = _part(self._arrays[_RECORDS], self._arrays["record_ends"], row)
        try:
            image, annotations = json.loads(text)
        except ValueError as error:
            raise BrokenStoreError(f"{self.path}: record {row} is damaged; delete the file") from error
        return image, annotations

    def file_names(self) -> list[str]:
        """Names of the image files as they are in the annotation file."""
        return _texts(self._arrays["names"], self._arrays["name_ends"])

    def exam_keys(self) -> list[str]:
        """Texts that are equal where exams are, over all stores."""
        return _texts(self._arrays["exam_keys"], self._arrays["exam_key_ends"])


def write_store(
    file: IO[bytes],
    coco: Mapping[str, Any],
    source: SourceState,
    warnings: Sequence[str] = (),
    num_warnings: int = 0,
) -> None:
    """Write the store of a checked annotation file.

    Args:
        file: open for writing, at its start.
        coco: what ``load_coco`` returns; with every key that is needed, all types checked.
        source: state of the annotation file before it was read.
        warnings, num_warnings: see ``RecordStore``.
    """
    writer = _Writer(file)
    images = sorted(coco["images"], key=lambda image: image["id"])
    rows = {image["id"]: row for row, image in enumerate(images)}
    annotations: list[list[dict[str, Any]]] = [[] for _ in images]
    for annotation in sorted(coco["annotations"], key=lambda entry: entry["id"]):
        annotations[rows[annotation["image_id"]]].append(annotation)
    del rows

    lengths = np.zeros(len(images), np.int64)
    writer.begin()
    for row, image in enumerate(images):
        text = json.dumps([image, annotations[row]], separators=(",", ":")).encode("ascii")
        lengths[row] = len(text)
        file.write(text)
    writer.end(_RECORDS, np.dtype(np.uint8), (int(lengths.sum()),))
    writer.array("record_ends", lengths.cumsum())

    writer.array("image_ids", np.array([image["id"] for image in images], np.int64))
    writer.texts("names", "name_ends", (image["file_name"] for image in images))
    names = list(dict.fromkeys(name for image in images for name in image.get("labels") or ()))
    writer.array("labels", _label_codes(images, names))
    writer.array("laterality", np.array([SIDE_CODES.index(image.get("laterality")) for image in images], np.int8))
    keys: dict[str, int] = {}
    texts = map(exam_key_text, images)
    exams = [-1 if text is None else keys.setdefault(text, len(keys)) for text in texts]
    writer.array("exams", np.array(exams, np.int64))
    writer.texts("exam_keys", "exam_key_ends", keys)
    writer.array("annotation_ends", np.cumsum([len(group) for group in annotations], dtype=np.int64))
    every = [annotation for group in annotations for annotation in group]
    writer.array("annotation_categories", np.array([entry["category_id"] for entry in every], np.int64))
    flags = [IS_CROWD * bool(entry["iscrowd"]) + IS_IGNORED * bool(entry.get("ignore")) for entry in every]
    writer.array("annotation_flags", np.array(flags, np.uint8))
    writer.array("patient_hashes", _hashes(image.get("patient_id") for image in images))
    sources = (image.get("source") for image in images)
    writer.array("content_hashes", _hashes(found.get("sha256") for found in sources if isinstance(found, Mapping)))
    writer.close(
        {
            "source": vars(source),
            "categories": coco["categories"],
            "warnings": list(warnings),
            "num_warnings": num_warnings,
            "label_names": names,
        }
    )


def exam_key_text(record: Mapping[str, Any]) -> str | None:
    """An image's exam (of a patient), else its patient, as a text; None if neither is known."""
    patient, exam = _plain(record.get("patient_id")), _plain(record.get("exam_id"))
    if exam is not None:
        return json.dumps(["exam", patient, exam])
    return None if patient is None else json.dumps(["patient", patient])


def _plain(value: Any) -> Any:
    """True and 1 are the same key to Python."""
    return int(value) if isinstance(value, bool) else value


def _label_codes(images: Sequence[Mapping[str, Any]], names: Sequence[str]) -> np.ndarray:
    codes = np.full((len(images), len(names)), MISSING, np.int8)
    column = {name: number for number, name in enumerate(names)}
    for row, image in enumerate(images):
        for name, value in (image.get("labels") or {}).items():
            codes[row, column[name]] = NULL if value is None else value
    return codes


def _hashes(values: Iterable[Any]) -> np.ndarray:
    """Sorted hashes of the different texts and numbers among some values."""
    kept = {_plain(value) for value in values if isinstance(value, (str, int))}
    digests = [hashlib.blake2b(json.dumps(value).encode(), digest_size=8).digest() for value in kept]
    return np.sort(np.frombuffer(b"".join(digests), np.uint64))


# --- the file -------------------------------------------------------------------------------------------------
class _Writer:
    """Writes arrays one after the other, then what they are."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self._layout: dict[str, tuple[int, str, list[int]]] = {}
        self._checksum = 0
        self._start = 0
        file.write(_MAGIC)

    def begin(self) -> None:
        self._file.write(bytes(-self._file.tell() % _ALIGNMENT))
        self._start = self._file.tell()

    def end(self, name: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
        self._layout[name] = (self._start, dtype.str, list(shape))

    def array(self, name: str, values: np.ndarray) -> None:
        self.begin()
        data = np.ascontiguousarray(values).tobytes()
        self._file.write(data)
        self._checksum = zlib.crc32(data, self._checksum)
        self.end(name, values.dtype, values.shape)

    def texts(self, name: str, ends: str, values: Iterable[str]) -> None:
        encoded = [value.encode("utf-8", "surrogatepass") for value in values]
        self.array(name, np.frombuffer(b"".join(encoded), np.uint8))
        self.array(ends, np.cumsum([len(value) for value in encoded], dtype=np.int64))

    def close(self, facts: Mapping[str, Any]) -> None:
        self.begin()
        header = json.dumps({"version": STORE_VERSION, "arrays": self._layout, **facts}).encode("ascii")
        self._file.write(header)
        self._file.write(_TRAILER.pack(self._start, len(header), zlib.crc32(header), self._checksum, _MAGIC))


def _read_layout(content: np.ndarray) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Header and arrays of a store, checked."""
    offset, length, header_crc, arrays_crc, magic = _TRAILER.unpack(content[-_TRAILER.size :].tobytes())
    if magic != _MAGIC or offset + length + _TRAILER.size != len(content):
        raise BrokenStoreError("is no whole record store")
    data = content[offset : offset + length].tobytes()
    if zlib.crc32(data) != header_crc:
        raise BrokenStoreError("has a damaged header")
    header = json.loads(data)
    if header["version"] != STORE_VERSION:
        raise BrokenStoreError(f"has format version {header['version']}, not {STORE_VERSION}")
    arrays, checksum = {}, 0
    for name, (start, kind, shape) in header["arrays"].items():
        dtype = np.dtype(kind)
        stop = start + dtype.itemsize * math.prod(shape)
        if dtype.kind not in "iu" or stop > offset:
            raise BrokenStoreError(f"has a damaged array {name}")
        arrays[name] = content[start:stop].view(dtype).reshape(shape)
        if name != _RECORDS:
            checksum = zlib.crc32(content[start:stop].data, checksum)
    if checksum != arrays_crc:
        raise BrokenStoreError("has a damaged array")
    return header, arrays


def _part(data: np.ndarray, ends: np.ndarray, row: int) -> str:
    return data[ends[row - 1] if row else 0 : ends[row]].tobytes().decode("utf-8", "surrogatepass")


def _texts(data: np.ndarray, ends: np.ndarray) -> list[str]:
    whole, stops = data.tobytes(), ends.tolist()
    return [whole[start:stop].decode("utf-8", "surrogatepass") for start, stop in pairwise([0, *stops])]
