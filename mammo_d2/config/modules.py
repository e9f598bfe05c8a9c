"""``MODULES``: the user's own modules, imported when a config is loaded."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from mammo_d2.config.named_configs import ConfigError
from mammo_d2.framework import CfgNode


def import_modules(cfg: CfgNode, names: Sequence[str]) -> None:
    """Import modules, which registers their components, and let them add config keys.

    If a module has a function ``add_config(cfg)``, it is called with the config, which has all keys of this package.

    Args:
        cfg: changed by the modules' ``add_config``.
        names: module names as in an import statement, e.g. ``my_package.heads``.

    Raises:
        ConfigError: a module cannot be imported, or its ``add_config`` fails.
    """
    for name in names:
        try:
            module = importlib.import_module(name)
        except Exception as error:  # whatever a user's module raises
            raise ConfigError(
                f"MODULES: {name!r} cannot be imported ({type(error).__name__}: {error}); install its package, or put "
                "the folder that holds it on PYTHONPATH"
            ) from error
        add_config = getattr(module, "add_config", None)
        if add_config is None:
            continue
        try:
            add_config(cfg)
        except Exception as error:
            raise ConfigError(f"MODULES: add_config of {name!r} failed ({type(error).__name__}: {error})") from error


def named_modules(content: dict, overrides: Sequence[str]) -> list[str]:
    """``MODULES`` of a config file's content and KEY VALUE overrides; the last value counts."""
    chosen = CfgNode({"MODULES": []})
    if "MODULES" in content:
        chosen.merge_from_other_cfg(CfgNode({"MODULES": content["MODULES"]}))
    for key, value in zip(overrides[::2], overrides[1::2], strict=True):
        if key == "MODULES":
            chosen.merge_from_list([key, value])
    return [str(name) for name in chosen.MODULES]
