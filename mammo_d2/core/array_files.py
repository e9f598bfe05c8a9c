"""Reading numpy files without running code from them: Python objects are refused, and a damaged file is named."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np


def load_array(path: str | os.PathLike[str], remedy: str, *, mmap_mode: Literal["r"] | None = None) -> np.ndarray:
    """The array of a ``.npy`` file.

    Args:
        path: the file.
        remedy: what the reader of the error can do about a file that cannot be read.
        mmap_mode: "r": the values stay in the file until they are used.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, of another kind, or holds Python objects.
    """

    def read() -> np.ndarray:
        content = np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
        if isinstance(content, np.ndarray):
            return content
        content.close()
        raise ValueError("a zip archive")

    return _read(read, path, ".npy", remedy)


def load_arrays(path: str | os.PathLike[str], remedy: str, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file by name.

    Args:
        path: the file.
        remedy: what the reader of the error can do about a file that cannot be read.
        names: read these alone, and leave out those that the file lacks; None: all.

    Raises:
        FileNotFoundError, ValueError: as ``load_array``.
    """

    def read() -> dict[str, np.ndarray]:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            raise ValueError("a single array")
        with content:
            others = [name for name in content.zip.namelist() if not name.endswith(".npy")]
            if others:
                raise ValueError(f"{others[0]} in it is no array")
            return {name: content[name] for name in (content.files if names is None else names) if name in content}

    return _read(read, path, ".npz", remedy)


def _read(read: Callable[[], Any], path: str | os.PathLike[str], kind: str, remedy: str) -> Any:
    try:
        return read()
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # a damaged file raises anything
        # numpy goes on with advice to read the file unsafely.
        problem = "it holds Python objects" if "pickle" in str(error) else str(error).split("\n")[0]
        raise ValueError(f"{os.fspath(path)}: damaged or not a {kind} file of arrays ({problem}); {remedy}") from error
