"""Writing a file so that it is either whole or absent."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def atomic_write(path: str, mode: str = "wb") -> Iterator[IO]:
    """Open a local file for writing that appears under its name only when it is complete and on disk.

    A process killed at any point leaves either the former file or the new one. The hidden file `.NAME.tmp` beside it
    may stay behind; the next write of the same name reuses it.

    Args:
        path: the file to write; its folder must exist.
        mode: "wb" or "w".
    """
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f".{name}.tmp")
    with open(temporary, mode) as file:
        yield file
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
