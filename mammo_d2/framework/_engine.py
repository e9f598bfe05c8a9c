"""Which engine runs: reads MAMMO_D2_ENGINE and imports the engine it names."""

import importlib
import importlib.util
import logging
import os
from collections.abc import Mapping
from types import ModuleType

ENV_VAR = "MAMMO_D2_ENGINE"
CHOICES = ("auto", "detectron2", "embedded")

_MODULES = {
    "detectron2": "mammo_d2.framework._detectron2",
    "embedded": "mammo_d2.framework.embedded",
}

logger = logging.getLogger("mammo_d2.framework")


class EngineError(ImportError):
    """The engine asked for cannot be used. The message says how to get one that can."""


def requested_engine(environ: Mapping[str, str] = os.environ) -> str:
    """Read the choice from the environment.

    Args:
        environ: environment variables; an absent or empty MAMMO_D2_ENGINE means "auto".

    Returns:
        One of `CHOICES`.

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


def load_engine(request: str) -> tuple[str, ModuleType]:
    """Import an engine.

    Args:
        request: one of `CHOICES`. With "auto", an installed detectron2 that fails to import is reported as a warning
            and the embedded engine is used.

    Returns:
        (name, module): "detectron2" or "embedded", and the module that holds the contract's names.

    Raises:
        EngineError: detectron2 was demanded but is not installed, or does not import.
    """
    if request == "embedded":
        return "embedded", importlib.import_module(_MODULES["embedded"])

    if importlib.util.find_spec("detectron2") is None:
        if request == "detectron2":
            raise EngineError(
                f"{ENV_VAR}=detectron2, but detectron2 is not installed for this Python. Install it "
                f"(pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git'), "
                f"or set {ENV_VAR}=embedded: same configs, checkpoints and results without it."
            )
        return load_engine("embedded")

    try:
        return "detectron2", importlib.import_module(_MODULES["detectron2"])
    except (ImportError, OSError, AttributeError) as error:  # a broken binary raises any of these
        reason = f"detectron2 is installed but does not import ({type(error).__name__}: {error})"
        remedy = "Its compiled part must match the installed torch: build it again against this torch"
        if request == "detectron2":
            raise EngineError(f"{ENV_VAR}=detectron2: {reason}. {remedy}, or set {ENV_VAR}=embedded.") from error
        logger.warning("%s; using the embedded engine. %s.", reason, remedy)
        return load_engine("embedded")
