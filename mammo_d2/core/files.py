"""Reading and writing files: atomic writes, JSON, YAML, hashes, folders for results."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import yaml

from mammo_d2.core.fast_json import LEAST_BYTES, parse_strictly


class FileFormatError(ValueError):
    """A file whose content is not what it should be; the message names the file, the place and the remedy."""


# --- paths ------------------------------------------------------------------------------------------------------
def path_problem(name: str) -> str | None:
    """What makes a path from a table, tag or annotation file unsafe to join to a folder; None if it stays inside.

    Backslashes and drive letters count on every system, so that a data set is as safe on another one.

    Args:
        name: a path that should be relative, e.g. "p1/L_CC.png".

    Returns:
        The predicate of an error message, e.g. "is an absolute path".
    """
    if "\0" in name:
        return "holds a zero byte"
    if name.startswith(("/", "\\")) or re.match("[A-Za-z]:", name):
        return "is an absolute path"
    if ".." in re.split(r"[/\\]", name):
        return "has '..' in it and may lead out of its folder"
    return None


# --- writing ----------------------------------------------------------------------------------------------------
@contextmanager
def atomic_write(path: str | os.PathLike[str], mode: str = "wb", *, durable: bool = True) -> Iterator[IO]:
    """Open a local file for writing that appears under its name only when it is complete.

    A process killed at any point leaves either the former file or the new one. After a kill the hidden file
    ``.NAME.tmp`` beside it may stay behind; the next write of the same name reuses it. Missing folders are made.

    Args:
        path: the file to write.
        mode: "wb" or "w" (UTF-8).
        durable: also force the content to the disk first, so that it survives a crash of the machine; costs
            milliseconds a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename is None:
            # Of a full disk Python does not say which file was written.
            raise OSError(error.errno, error.strerror, os.fspath(path)) from error
        raise


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` so that an interrupted run leaves either the old file or the new one; missing folders are made."""
    with atomic_write(path, durable=False) as file:
        file.write(data)


def make_folder(path: str | os.PathLike[str], what: str) -> Path:
    """Make a folder for results before any work is done for them.

    Args:
        path: the folder; it may exist.
        what: option or config key that names it, for the message.

    Raises:
        ValueError: it cannot be made or written to.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"{what} {folder} cannot be made ({error.strerror}); name another folder") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{what} {folder} cannot be written to; change its permissions or name another folder")
    return folder


# --- text -------------------------------------------------------------------------------------------------------
# How files begin that are no UTF-8 text, and what to do with them.
_NO_TEXT = {
    b"\x1f\x8b": "is compressed (gzip); unpack it",
    b"PK\x03\x04": "is an Excel workbook or a ZIP archive; save the table as CSV, or unpack the archive",
    b"\xd0\xcf\x11\xe0": "is an old Excel workbook; save the table as CSV",
    b"\xff\xfe": "is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "is UTF-16 text; save it as UTF-8",
}


def text_problem(start: bytes) -> str | None:
    """What makes a file that begins so no UTF-8 text, with the remedy; None if nothing is known against it.

    Args:
        start: the first bytes of the file, a hundred are enough.

    Returns:
        The predicate of an error message, e.g. "is UTF-16 text; save it as UTF-8".
    """
    for magic, problem in _NO_TEXT.items():
        if start.startswith(magic):
            return problem
    return "holds zero bytes (is it UTF-16 text?); save it as UTF-8" if b"\0" in start else None


def read_text(
    path: str | os.PathLike[str], *, if_missing: str = "check the path", error: type[ValueError] = FileFormatError
) -> str:
    """Content of a text file in UTF-8; a byte order mark is dropped.

    Args:
        path: the file.
        if_missing: end of the message for a file that is not there.
        error: raised for a file that is not UTF-8 text.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: compressed, an Excel workbook, or text in another encoding; or the given ``error``.
    """
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError as cause:
        raise FileNotFoundError(f"{path}: no such file; {if_missing}") from cause
    except IsADirectoryError as cause:
        raise error(f"{path}: is a folder, not a file; check the path") from cause
    # Zero bytes may stand anywhere, what else tells that it is no text at the start.
    if problem := text_problem(data[:100]) or text_problem(data):
        raise error(f"{path}: {problem}")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(
            f"{path}: not UTF-8 text ({cause.reason} at byte {cause.start}; is it Latin-1?); save it as UTF-8"
        ) from cause


# --- JSON -------------------------------------------------------------------------------------------------------
def read_json(
    path: str | os.PathLike[str],
    *,
    remedy: str = "the file may be truncated, write it again",
    if_missing: str = "check the path",
    error: type[ValueError] = FileFormatError,
) -> Any:
    """Content of a JSON file in UTF-8.

    Args:
        path: the file.
        remedy: end of the message for a file that is not JSON.
        if_missing: end of the message for a file that is not there.
        error: raised for a file that is not JSON.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: the file is not JSON (with line and column), is nested too deeply, has a number of thousands
            of digits, an object that has a key twice (JSON readers take the one or the other), or is not UTF-8 text; or
            the given ``error``.
    """
    text = read_text(path, if_missing=if_missing, error=error)
    if len(text) >= LEAST_BYTES and (content := parse_strictly(text.encode("utf-8"))) is not None:
        return content
    try:
        return json.loads(text, object_pairs_hook=_without_repetition)
    except _RepeatedKey as cause:
        raise error(f"{path}: an object has the key {cause.args[0]!r} twice; remove one of them") from cause
    except json.JSONDecodeError as cause:
        place = f"line {cause.lineno} column {cause.colno}"
        raise error(f"{path}: not valid JSON at {place} ({cause.msg}); {remedy}") from cause
    except RecursionError as cause:
        raise error(f"{path}: lists or objects are nested too deeply; {remedy}") from cause
    except ValueError as cause:  # Python's limit on the digits of an integer
        raise error(f"{path}: a number has thousands of digits; {remedy}") from cause


class _RepeatedKey(Exception):
    """Holds the key that an object has twice."""


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKey(next(key for key in keys if keys.count(key) > 1)[:80])
    return content


def write_json(
    path: str | os.PathLike[str],
    value: Any,
    *,
    indent: int | None = 1,
    nan_as_null: bool = False,
    durable: bool = True,
) -> Path:
    """Write ``value`` as UTF-8 JSON, atomically.

    Args:
        path: the file to write.
        value: dicts, lists, tuples, text, numbers, booleans and None.
        indent: spaces per level; None writes one line.
        nan_as_null: NaN and infinity become null, numpy arrays and scalars are accepted.
        durable: see ``atomic_write``.

    Returns:
        The path written.

    Raises:
        ValueError: NaN or infinity without ``nan_as_null``.
    """
    value = _without_nan(value) if nan_as_null else value
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    with atomic_write(path, durable=durable) as file:
        file.write((text + "\n").encode("utf-8"))
    return Path(path)


def _without_nan(value: Any) -> Any:
    """Copy of nested dicts, lists, tuples and numpy values in Python's types; None for NaN and infinity."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _without_nan(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_without_nan(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


# --- YAML ------------------------------------------------------------------------------------------------------
class _Loader(yaml.SafeLoader):
    """Refuses a mapping that has a key twice, of which YAML readers take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in keys:
                line = key_node.start_mark.line + 1
                raise yaml.YAMLError(f"line {line}: the key {key!r:.80} is there twice; remove one of them")
            if isinstance(key, Hashable):
                keys.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: str | os.PathLike[str], *, error: type[ValueError] = FileFormatError) -> Any:
    """Content of a YAML file in UTF-8: dicts, lists, texts, numbers, dates.

    Args:
        path: the file.
        error: raised for a file that is no YAML.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: no YAML, another type than the safe ones, a key twice in a mapping, nested too deeply, or no
            text in UTF-8; or the given ``error``.
    """
    text = read_text(path, error=error)
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as cause:
        raise error(f"{path}: not plain YAML: {' '.join(str(cause).split())}") from cause
    except RecursionError as cause:
        raise error(f"{path}: lists or mappings are nested too deeply, or hold themselves") from cause
    except (ValueError, TypeError, OverflowError) as cause:  # a date or number that is none
        raise error(f"{path}: not plain YAML: {cause}") from cause


# --- hashes -----------------------------------------------------------------------------------------------------
def sha256_bytes(data: bytes) -> str:
    """Hexadecimal SHA-256 of a byte string."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hexadecimal SHA-256 of a file's content, read in blocks of 1 MiB."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
