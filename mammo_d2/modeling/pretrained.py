"""Weights of parts of a model from a file of their own, besides MODEL.WEIGHTS."""

from typing import Any

from torch import nn

from mammo_d2.framework.weights.weight_files import UnsafePickleError, read_torch_file


def read_pretrained(path: str, key: str) -> dict[str, Any]:
    """Weights by name, from a file of torch; of a checkpoint, those of its model.

    Args:
        path: the file.
        key: the config key that names it, for messages.

    Raises:
        FileNotFoundError: no such file.
        UnsafePickleError: it holds Python objects that could run code.
        ValueError: a file of something else.
    """
    try:
        content = read_torch_file(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{key} {path}: no such file") from None
    except UnsafePickleError as error:
        raise UnsafePickleError(f"{key} {path}", error.what) from error
    except ValueError as error:
        problem = str(error).removeprefix(f"{path}: ")
        raise ValueError(f"{key} {path} cannot be read as a file of weights: {problem}") from error
    weights = content.get("model", content) if isinstance(content, dict) else None
    if not isinstance(weights, dict):
        raise ValueError(f"{key} {path} holds a {type(content).__name__}, not weights by name")
    return weights


def load_pretrained(network: nn.Module, weights: dict[str, Any], path: str, key: str, name: str) -> None:
    """Load all weights of a network.

    Args:
        network: takes them.
        weights: by the network's names.
        path: the file that they come from.
        key: the config key that names it, for messages.
        name: what the network is called, for messages.

    Raises:
        ValueError: missing or unknown weights, or weights of another shape; with the first of them.
    """
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise ValueError(f"{key} {path} are no weights of {name}: {first}") from error
