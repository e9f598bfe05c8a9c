"""Writing a file so that it is either whole or absent: what every room of the package uses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
