"""Reading .safetensors files: a JSON header and plain numbers, nothing that could run code.

Layout: 8 bytes with the length of the header (little endian); the header, with dtype, shape and data_offsets by name;
the data, whose offsets count from the end of the header.

Source:
    https://github.com/huggingface/safetensors, README, "Format".
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is damaged, or not of this format; with the tensor.
    """
    content = bytearray(Path(path).read_bytes())
    begin = 8 + int.from_bytes(content[:8], "little")
    if len(content) < 8 or begin > len(content):
        raise ValueError(f"{path}: damaged or not a .safetensors file (its header does not fit into the file)")
    try:
        header = json.loads(content[8:begin])
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: damaged or not a .safetensors file (its header is no JSON: {error})") from None
    if not isinstance(header, dict):
        raise ValueError(f"{path}: damaged or not a .safetensors file (its header is no JSON object)")
    data = memoryview(content)[begin:]
    return {
        name: _tensor(data, entry, f"{path}: tensor {name!r}") for name, entry in header.items() if name[:2] != "__"
    }


def _tensor(data: memoryview, entry: Any, where: str) -> Tensor:
    if not isinstance(entry, dict) or not all(_are_sizes(entry.get(key)) for key in ("shape", "data_offsets")):
        raise ValueError(f"{where} has no shape or no offsets; the file is damaged")
    dtype, shape, offsets = entry.get("dtype"), entry["shape"], entry["data_offsets"]
    if dtype not in _DTYPES:
        raise ValueError(f"{where} is of the type {dtype!r}; known are {', '.join(_DTYPES)}")
    size = math.prod(shape)
    length = size * torch.empty(0, dtype=_DTYPES[dtype]).element_size()
    if len(offsets) != 2 or offsets[1] - offsets[0] != length or offsets[1] > len(data):
        raise ValueError(
            f"{where} {shape} of {dtype} needs {length} bytes, not those at {offsets}; the file is damaged"
        )
    if not size:
        return torch.zeros(shape, dtype=_DTYPES[dtype])
    return torch.frombuffer(data[offsets[0] : offsets[1]], dtype=_DTYPES[dtype]).reshape(shape).clone()


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)
