"""The framework door: one flat list of framework names, served by detectron2 or by the embedded engine.

All other code of the package imports framework names from here. The environment variable ``MAMMO_D2_ENGINE`` picks the
engine once, at import: ``detectron2``, ``embedded``, or ``auto`` (the default: detectron2 where it is installed).
``ENGINE`` says which one it is. ``_contract.py`` lists the names; docs/framework_contract.md shows the same list.
"""

import warnings
from typing import TYPE_CHECKING

from mammo_d2.framework._contract import CONTRACT
from mammo_d2.framework._engine import EngineError, load_engine, logger, requested_engine

if TYPE_CHECKING:  # type checkers and editors read the embedded engine: its names and signatures are the contract
    from mammo_d2.framework._static import *  # noqa: F403

with warnings.catch_warnings():
    # fvcore scripts a function when it is imported, which newer torch versions comment on: nothing a user could change.
    warnings.filterwarnings("ignore", message=".*torch.jit.script", category=FutureWarning)
    ENGINE, _names = load_engine(requested_engine())

globals().update(_names)
logger.info("engine: %s", ENGINE)

__all__ = ["ENGINE", "EngineError", *CONTRACT]
