"""Files of weights as safetensors: plain numbers by name, nothing that could run code."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mammo_d2.core.files import atomic_write

SUFFIX = ".safetensors"


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or not of this format.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"weight file {path} does not exist")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged or not a {SUFFIX} file ({error})") from error


def write_safetensors(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name, the whole file or none.

    Args:
        path: the file.
        weights: tensors of any device and type; each is stored as it is.
        metadata: short texts that the file's header keeps.
    """
    content = save({name: value.detach().cpu().contiguous() for name, value in weights.items()}, dict(metadata or {}))
    with atomic_write(os.fspath(path)) as file:
        file.write(content)
