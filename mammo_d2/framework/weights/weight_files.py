"""Reading weight files without running code from them: .pth, .safetensors, .pkl of detectron2's and Caffe2's zoos."""

import collections
import contextlib
import functools
import io
import os
import pickle
import re
import tarfile
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import torch

from mammo_d2.framework.weights.safetensors_files import SUFFIX, read_safetensors

ALLOW_PICKLE_ENV = "MAMMO_D2_ALLOW_PICKLE"

# Keys of the state dict in files that hold more: of torch and detectron2, of Lightning and others, of pycls.
_STATE_KEYS = ("model", "state_dict", "model_state")

# What a .pkl of numpy arrays needs. numpy renamed its core module; old files carry the old name.
_PICKLE_GLOBALS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
for _core in ("numpy.core", "numpy._core"):
    _PICKLE_GLOBALS[_core + ".multiarray", "_reconstruct"] = np.zeros(1).__reduce__()[0]
    _PICKLE_GLOBALS[_core + ".multiarray", "scalar"] = np.float64(1).__reduce__()[0]
    _PICKLE_GLOBALS[_core + ".numeric", "_frombuffer"] = np.zeros(1).__reduce_ex__(5)[0]


# The same for torch.load, which wants the types of arrays as well.
_TORCH_GLOBALS = [
    *((function, f"{module}.{name}") for (module, name), function in _PICKLE_GLOBALS.items()),
    *(dtype for dtype in vars(np.dtypes).values() if isinstance(dtype, type) and issubclass(dtype, np.dtype)),
]


# Parts of torch's messages that name a type it refuses to load.
_REFUSED = re.compile(r"(?:nsupported (?:global: )?GLOBAL|Unsupported class|but got) ([\w.<>']+)")


class UnsafePickleError(ValueError):
    """The file holds Python objects beyond tensors, arrays and plain values; reading them can run any code."""

    def __init__(self, path: str, what: str):
        self.what = what
        super().__init__(
            f"{path}: refused to read it, because {what}; reading such objects can run any code. "
            f"If you trust where the file comes from, set the environment variable {ALLOW_PICKLE_ENV}=1 "
            f"and load it again (saving it afterwards with only tensors and plain values removes the need)."
        )


class _ArrayUnpickler(pickle._Unpickler):
    """Unpickler for numpy arrays in plain containers.

    Python's own, not that in C, whose step that sets the state of an object cannot be checked.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, file: io.BufferedIOBase, path: str):
        super().__init__(file, encoding="latin1")  # Python 2 wrote the model zoos
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("_codecs", "encode"):
            return _encode_latin1
        try:
            return _PICKLE_GLOBALS[module, name]
        except KeyError:
            raise UnsafePickleError(self._path, f"it contains {module}.{name}") from None

    def _load_checked_state(self) -> None:
        """Check the state of a dtype: numpy takes any, and a damaged one ends the process when it is used."""
        *_, target, state = self.stack  # type: ignore[attr-defined]
        if isinstance(target, np.dtype):
            plain = isinstance(state, tuple) and len(state) == 8 and state[2:5] == (None, None, None)
            if not plain or target.hasobject or state[0] != 3 or state[1] not in ("<", ">", "|", "=") or state[7] != 0:
                raise pickle.UnpicklingError(f"state {state!r:.100} of the array type {target}")
        super().load_build()  # type: ignore[misc]

    dispatch[pickle.BUILD[0]] = _load_checked_state  # type: ignore[assignment]


def _encode_latin1(text: str, encoding: str = "latin1") -> bytes:
    """The bytes of an array that Python 3 pickled with protocol 2."""
    if encoding.replace("-", "").lower() not in ("latin1", "iso88591"):
        raise pickle.UnpicklingError(f"unexpected encoding {encoding!r} of array bytes")
    return text.encode("latin1")


def read_weight_file(path: str, allow_pickle: bool | None = None) -> dict[str, Any]:
    """Read a checkpoint or a file of weights.

    Args:
        path: local file. ".pkl" is read as a pickle of numpy arrays, ".safetensors" as such, anything else by
            torch.load.
        allow_pickle: read Python objects of any kind. None: only if MAMMO_D2_ALLOW_PICKLE is "1".

    Returns:
        Dict with "model" (parameter name -> tensor or array) and whatever else a checkpoint holds. For model zoo files
        also "__author__", and "matching_heuristics": True where names fit the model's by their endings only.

    Raises:
        FileNotFoundError: no such file.
        UnsafePickleError: the file needs ``allow_pickle``.
        ValueError: the file is damaged, or is no file of weights.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"weight file {path} does not exist; check MODEL.WEIGHTS")
    if path.endswith(".pkl"):
        content = _read_pickle(path, _is_allowed(allow_pickle))
        return _as_zoo_checkpoint(content, path)
    if path.endswith(SUFFIX):
        return {"model": read_safetensors(path)}
    content = read_torch_file(path, allow_pickle)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a dict of weights")
    for key in _STATE_KEYS:
        if isinstance(content.get(key), dict):
            rest = {name: value for name, value in content.items() if name != key}
            return {"model": content[key], **rest}
    if not any(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"{path}: no weights in it; it has {', '.join(map(str, list(content)[:10]))}")
    return {"model": content}


def _is_allowed(allow_pickle: bool | None) -> bool:
    return os.environ.get(ALLOW_PICKLE_ENV) == "1" if allow_pickle is None else allow_pickle


def _read_pickle(path: str, allow_pickle: bool) -> Any:
    with open(path, "rb") as file:
        try:
            if allow_pickle:
                return pickle.load(file, encoding="latin1")
            return _ArrayUnpickler(file, path).load()
        except UnsafePickleError:
            raise
        except Exception as error:  # a damaged pickle raises anything
            raise ValueError(f"{path}: damaged or not a pickle ({type(error).__name__}: {error})") from error


def _as_zoo_checkpoint(content: Any, path: str) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise ValueError(f"{path}: holds a {type(content).__name__}, not a dict of weights")
    if "model" in content and "__author__" in content:  # detectron2's own zoo
        return content
    blobs = content.get("blobs", content)  # Caffe2: detectors have "blobs", ImageNet models are the blobs
    weights = {name: blob for name, blob in blobs.items() if not name.endswith("_momentum")}
    return {"model": weights, "__author__": "Caffe2", "matching_heuristics": True}


@contextlib.contextmanager
def _allowed_globals() -> Iterator[None]:
    """Let ``torch.load`` read numpy arrays within the context."""
    if hasattr(torch.serialization, "safe_globals"):
        with torch.serialization.safe_globals(_TORCH_GLOBALS):  # type: ignore[arg-type]  # its type lacks the pairs
            yield
        return
    # torch 2.4 has no such context, and finds a function by its own ``__name__``.
    before = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    encode = (_encode_latin1, "_codecs.encode")  # later versions allow it by themselves
    torch.serialization.add_safe_globals([*before, *map(_under_its_name, [*_TORCH_GLOBALS, encode])])
    try:
        yield
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def _under_its_name(entry: Any) -> Any:
    """A function renamed to the name that files use for it; types as they are."""
    if isinstance(entry, type):
        return entry
    function, path = entry
    if isinstance(function, type):
        return function
    renamed = functools.partial(function)
    renamed.__module__, _, renamed.__name__ = path.rpartition(".")  # type: ignore[attr-defined]
    return renamed


def read_torch_file(path: str, allow_pickle: bool | None = None) -> Any:
    """What ``torch.save`` wrote, on the CPU; every such file is read by this function.

    Args:
        path: local file, of any name.
        allow_pickle: as for ``read_weight_file``.

    Returns:
        Tensors, arrays and plain values in plain containers.

    Raises:
        FileNotFoundError: no such file.
        UnsafePickleError: the file needs ``allow_pickle``.
        ValueError: the file is damaged, or not of ``torch.save``.
    """
    allow_pickle = _is_allowed(allow_pickle)
    if not allow_pickle and tarfile.is_tarfile(path):
        # torch before 2.6 runs code from such files even when asked for weights only (CVE-2025-32434).
        raise UnsafePickleError(
            path, "it is a tar archive (torch before 0.1.10), which torch before 2.6 reads unsafely"
        )
    try:
        with _allowed_globals():
            return torch.load(path, map_location="cpu", weights_only=not allow_pickle)
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged file raises anything
        refused = _REFUSED.search(str(error)) if isinstance(error, pickle.UnpicklingError) else None
        if refused:
            raise UnsafePickleError(path, f"it contains {refused[1]}") from error
        raise ValueError(
            f"{path}: damaged or not a file of torch.save ({_first_sentence(error)}); copy or train it again"
        ) from error


def _first_sentence(error: Exception) -> str:
    """Type and first sentence of an error; torch goes on with advice to read the file unsafely."""
    text = re.split(r"[.;]? (?=In PyTorch|Re-running)|[.]?\n", str(error))[0]
    return f"{type(error).__name__}: {text}"
