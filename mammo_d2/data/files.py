"""Small file helpers of the data room: hashes and files that appear complete or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from mammo_d2.atomic import atomic_write


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
