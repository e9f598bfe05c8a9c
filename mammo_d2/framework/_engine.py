"""Which engine runs: reads MAMMO_D2_ENGINE and imports the contract's names from the engine it names."""

import importlib
import importlib.util
import logging
import os
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mammo_d2.framework._contract import CONTRACT

ENV_VAR = "MAMMO_D2_ENGINE"
CHOICES = ("auto", "detectron2", "embedded")

# The package that the contract's relative module names begin at.
_PACKAGES = {"detectron2": "detectron2", "embedded": "mammo_d2.framework.embedded"}

logger = logging.getLogger("mammo_d2.framework")


class EngineError(ImportError):
    """The engine asked for cannot be used. The message says how to get one that can."""


def requested_engine(environ: Mapping[str, str] = os.environ) -> str:
    """Read the choice from the environment.

    Args:
        environ: environment variables; an absent or empty MAMMO_D2_ENGINE means "auto".

    Returns:
        One of ``CHOICES``.

    Raises:
        EngineError: MAMMO_D2_ENGINE has another value.
    """
    value = environ.get(ENV_VAR, "").strip() or "auto"
    if value not in CHOICES:
        raise EngineError(
            f"environment variable {ENV_VAR} is {value!r}; it must be one of {', '.join(CHOICES)}. "
            f"Unset it to use detectron2 where it is installed and the embedded engine elsewhere."
        )
    return value


def load_engine(request: str) -> tuple[str, dict[str, Any]]:
    """Import an engine.

    Args:
        request: one of ``CHOICES``. With "auto", an installed detectron2 that fails to import is reported as a warning
            and the embedded engine is used.

    Returns:
        "detectron2" or "embedded", and what the engine has under the contract's names.

    Raises:
        EngineError: detectron2 was demanded but is not installed, or does not import.
    """
    if request == "embedded":
        return "embedded", engine_names("embedded")

    if importlib.util.find_spec("detectron2") is None:
        if request == "detectron2":
            raise EngineError(
                f"{ENV_VAR}=detectron2, but detectron2 is not installed for this Python. Install it "
                f"(pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'), "
                f"or set {ENV_VAR}=embedded: same configs, checkpoints and results without it."
            )
        return load_engine("embedded")

    try:
        return "detectron2", engine_names("detectron2")
    except (ImportError, OSError, AttributeError) as error:  # a broken binary raises any of these
        reason = f"detectron2 is installed but does not import ({type(error).__name__}: {error})"
        remedy = "Its compiled part must match the installed torch: build it again against this torch"
        if request == "detectron2":
            raise EngineError(f"{ENV_VAR}=detectron2: {reason}. {remedy}, or set {ENV_VAR}=embedded.") from error
        logger.warning("%s; using the embedded engine. %s.", reason, remedy)
        return load_engine("embedded")


def engine_names(engine: str) -> dict[str, Any]:
    """The contract's names as one engine ("detectron2" or "embedded") has them.

    Raises:
        ImportError: the engine does not import, or lacks names.
    """
    found, missing = {}, []
    for name, entry in CONTRACT.items():
        module = importlib.import_module(getattr(entry, engine), _PACKAGES[engine])
        try:
            found[name] = _member(module, name)
        except ImportError:
            missing.append(name)
    if missing:
        raise ImportError(f"{_PACKAGES[engine]} lacks {', '.join(missing)}; this package needs a newer one")
    return found


def _member(module: ModuleType, name: str) -> Any:
    """What ``from module import name`` gives: an attribute, or a submodule that may not have been imported yet."""
    if hasattr(module, name):
        return getattr(module, name)
    return importlib.import_module(f"{module.__name__}.{name}")
