"""Small file helpers of the data room: hashes and files that appear complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from mammo_d2.core.atomic import atomic_write


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


def write_bytes_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` so that an interrupted run leaves either the old file or the new one; missing folders are made."""
    with atomic_write(path, durable=False) as file:
        file.write(data)


def write_json(path: str | os.PathLike[str], value: Any, *, indent: int | None = 1) -> None:
    """Write ``value`` as UTF-8 JSON, atomically; NaN and infinity are refused (``ValueError``)."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    write_bytes_atomic(path, (text + "\n").encode("utf-8"))


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
