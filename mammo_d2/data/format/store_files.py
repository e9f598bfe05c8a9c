"""Finding, making and renewing the record store of an annotation file.

The store lies beside the annotation file (``train.json`` -> ``train.records``), or in the user's cache folder where
that folder cannot be written, or in memory where neither can. It belongs to one state of the annotation file; after a
change it is made again.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from mammo_d2.core.fast_json import no_collection
from mammo_d2.data.format.annotations import MOST_WARNINGS, load_coco, log_warnings, validated_coco
from mammo_d2.data.format.image_check import add_missing, existing_files
from mammo_d2.data.format.problems import Report
from mammo_d2.data.format.record_store import BrokenStoreError, RecordStore, SourceState, write_store

#: Values of DATASETS.RECORD_STORE.
STORE_CHOICES = ("auto", "always", "never")
#: With "auto", annotation files of at least so many bytes have a store.
LEAST_STORED_BYTES = 8 << 20
#: Wins over the user's cache folder.
CACHE_VARIABLE = "MAMMO_D2_CACHE"

_SUFFIX = ".records"

logger = logging.getLogger(__name__)


def wants_store(json_file: str | os.PathLike[str], choice: str) -> bool:
    """Whether the records of an annotation file are read through a store.

    Args:
        json_file: the annotation file.
        choice: DATASETS.RECORD_STORE.

    Raises:
        ValueError: an unknown choice.
    """
    if choice not in STORE_CHOICES:
        raise ValueError(f"DATASETS.RECORD_STORE is {choice!r}; use one of {', '.join(STORE_CHOICES)}")
    if choice != "auto":
        return choice == "always"
    try:
        return os.path.getsize(json_file) >= LEAST_STORED_BYTES
    except OSError:
        return False


def store_places(json_file: str | os.PathLike[str]) -> list[Path]:
    """Where the store of an annotation file may lie, best first."""
    beside = Path(json_file).with_suffix(_SUFFIX)
    cache = os.environ.get(CACHE_VARIABLE)
    if not cache:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        cache = os.path.join(base, "mammo_d2")
    digest = hashlib.blake2b(os.path.realpath(json_file).encode("utf-8", "surrogateescape"), digest_size=12)
    return [beside, Path(cache) / "records" / f"{digest.hexdigest()}{_SUFFIX}"]


def open_store(json_file: str | os.PathLike[str], image_root: str | os.PathLike[str]) -> RecordStore:
    """The store of an annotation file, made if there is none for its present state.

    That the image files exist is looked at once in each process.

    Args:
        json_file: the annotation file.
        image_root: folder that its file names are relative to.

    Raises:
        FileNotFoundError: there is no such annotation file.
        SchemaError: it breaks the format, or an image file is missing; see ``load_coco``.
    """
    path = Path(json_file)
    if not path.is_file():
        load_coco(path)  # raises what it always does
    store = _present(path)
    if store is None:
        with _alone(path):
            # Another process may have made it while this one waited.
            store = _present(path) or _make(path, image_root)
    else:
        log_warnings(path, store.warnings, store.num_warnings)
    _check_images(path, store, image_root)
    return store


def _present(path: Path) -> RecordStore | None:
    """The store of the file's present state, if there is one."""
    for place in store_places(path):
        try:
            store = RecordStore.map(place)
        except BrokenStoreError as error:
            logger.warning("%s; it is made again", error)
            continue
        except OSError:
            continue
        if store.source.is_still_that_of(path):
            return store
        logger.info("%s belongs to another state of %s; it is made again", place, path)
    return None


def _make(path: Path, image_root: str | os.PathLike[str]) -> RecordStore:
    """Read and check the annotation file and write its store; in memory if it can be written nowhere."""
    source = SourceState.of(path)
    with no_collection():
        coco, report = validated_coco(path, image_root, check_images="exists")
        _checked.add(_check_key(path, source, image_root))
        warnings = [warning.text for warning in report.warnings[:MOST_WARNINGS]]
        count = len(report.warnings)
        problems = []
        for place in store_places(path):
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)
            except OSError as error:
                problems.append(f"{place} ({error.strerror})")
                continue
            try:
                with os.fdopen(handle, "wb") as file:
                    write_store(file, coco, source, warnings, count)
                # As other files of a data set, not for the owner alone.
                os.chmod(temporary, 0o666 & ~_umask())
                os.replace(temporary, place)
                logger.info("%s: the checked records of %s, for the next start", place, path)
                return RecordStore.map(place)
            except OSError as error:
                problems.append(f"{place} ({error.strerror})")
            finally:
                with suppress(OSError):
                    os.unlink(temporary)
        logger.warning(
            "%s: its records can be kept in no file: %s; each process reads and checks them again at each start. Make "
            "one of the folders writable, or name another one with the environment variable %s",
            path, "; ".join(problems), CACHE_VARIABLE,
        )  # fmt: skip
        buffer = io.BytesIO()
        write_store(buffer, coco, source, warnings, count)
    return RecordStore(np.frombuffer(buffer.getbuffer(), np.uint8))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one process of this machine make a store while the others wait; without locks each makes its own."""
    try:
        import fcntl

        with open(path, "rb") as file:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except ModuleNotFoundError:
        yield


# Annotation files, in their state, and image folders whose files have been looked for by this process.
_checked: set[tuple[str, int, str]] = set()


def _check_key(path: Path, source: SourceState, image_root: str | os.PathLike[str]) -> tuple[str, int, str]:
    return os.path.realpath(path), source.mtime_ns, os.path.realpath(image_root)


def _check_images(path: Path, store: RecordStore, image_root: str | os.PathLike[str]) -> None:
    """Missing files are found now rather than hours into a training."""
    key = _check_key(path, store.source, image_root)
    if key in _checked:
        return
    names = store.file_names()
    found = existing_files(image_root, names)
    if len(found) < len(names):
        report = Report()
        for row, name in enumerate(names):
            if name not in found:
                add_missing(report, str(path), {"id": int(store.image_ids[row]), "file_name": name}, image_root)
        report.raise_if_errors()
    _checked.add(key)
