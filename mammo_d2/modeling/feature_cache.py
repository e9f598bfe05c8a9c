"""Cache on disk for results of frozen networks, keyed by the content of everything that they depend on.

A key is a hash of the input's bytes, of the weights, and of the modules' description and plain attributes, so there is
no list of settings to maintain. Another image, augmentation, window, weight or layer setting gives another key.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mammo_d2.framework.weights.weight_files import read_torch_file

# Increase it when results change without a change of weights or of the modules' description.
_FORMAT = 2

# Attributes of every module: the mode, and registries of what is hashed elsewhere.
_COMMON_ATTRIBUTES = frozenset(vars(nn.Module()))


class FeatureCache:
    """A folder of tensors by key; several processes may share it."""

    def __init__(self, folder: str | os.PathLike[str]):
        """
        Args:
            folder: made when the first tensor is kept. Delete it to free the space.
        """
        self.folder = Path(folder)

    def get(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """The tensor of ``key`` on the CPU, made and kept if it is not there or cannot be read."""
        path = self.folder / key[:2] / f"{key}.pt"
        try:
            return read_torch_file(str(path), allow_pickle=False)
        except (OSError, ValueError):
            value = make().detach().cpu().clone()
        path.parent.mkdir(parents=True, exist_ok=True)
        # A name of its own: two processes may make the same tensor at the same time.
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        torch.save(value, temporary)
        os.replace(temporary, path)
        return value


class ModuleFingerprint:
    """Hash of frozen modules, computed again only after their weights were changed or moved."""

    def __init__(self, modules: Sequence[nn.Module]):
        self._modules = list(modules)
        self._state: tuple = ()
        self._digest = ""

    def __call__(self) -> str:
        """Hex digest of the modules' description, plain attributes, weights and buffers."""
        tensors = [t for module in self._modules for t in (*module.parameters(), *module.buffers())]
        state = tuple((t.data_ptr(), t._version) for t in tensors)
        if state != self._state or not self._digest:
            described = [part for module in self._modules for part in (repr(module), _attributes(module))]
            self._digest = content_key([str(_FORMAT), *described], tensors)
            self._state = state
        return self._digest


def _attributes(module: nn.Module) -> str:
    """Plain attributes (numbers, strings, collections) of a module and its parts: settings not in its description."""
    found = []
    for name, part in module.named_modules():
        plain = {key: value for key, value in vars(part).items() if key not in _COMMON_ATTRIBUTES and _is_plain(value)}
        found.append((name, sorted(plain.items())))
    return repr(found)


def _is_plain(value: Any) -> bool:
    if isinstance(value, Mapping):
        return all(_is_plain(item) for pair in value.items() for item in pair)
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bytes | int | float | torch.dtype)


def content_key(parts: Iterable[bytes | str], tensors: Iterable[Tensor] = ()) -> str:
    """Hex digest of byte strings and of the shapes, types and values of tensors, in order."""
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    for tensor in tensors:
        digest.update(f"{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
