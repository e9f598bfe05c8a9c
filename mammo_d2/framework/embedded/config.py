"""Configuration: a YAML-backed tree of typed keys, and ``configurable``, which lets a class be built from it."""

import functools
import inspect
import os
from collections.abc import Callable
from typing import Any

from fvcore.common.config import CfgNode as _FvcoreCfgNode
from iopath.common.file_io import g_pathmgr

from mammo_d2.framework.embedded.defaults import DEFAULTS


class CfgNode(_FvcoreCfgNode):
    """A tree of configuration keys; merging an unknown key or a value of another type raises.

    Files may name files they inherit from under ``_BASE_``. They are read as plain data: unlike detectron2, YAML tags
    that run code are refused unless ``allow_unsafe`` is given.
    """

    def merge_from_file(self, cfg_filename: str, allow_unsafe: bool = False) -> None:
        """Merge the keys of a YAML file, and of the files it names in ``_BASE_``, into this config.

        Args:
            cfg_filename: path of the file.
            allow_unsafe: also accept YAML tags that construct Python objects, for files one wrote oneself.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file holds no keys, or is written for another version of the key set.
            KeyError: the file has a key that this config lacks.
        """
        if not g_pathmgr.isfile(cfg_filename):
            raise FileNotFoundError(f"config file {os.fspath(cfg_filename)!r} does not exist")
        try:
            content = self.load_yaml_with_base(cfg_filename, allow_unsafe=allow_unsafe)
        except TypeError:  # what an empty file, or an empty base, gives
            content = None
        if not isinstance(content, dict):
            raise ValueError(f"{cfg_filename}: this file, or one it names in _BASE_, does not hold configuration keys")
        version = content.get("VERSION", self.get("VERSION"))
        if version != self.get("VERSION"):
            raise ValueError(
                f"{cfg_filename}: VERSION is {version}, but this config has VERSION {self.get('VERSION')}; "
                "rename the keys to the current ones and set VERSION"
            )
        self.merge_from_other_cfg(type(self)(content))


def get_cfg() -> CfgNode:
    """Return a new config with every default key."""
    return CfgNode(DEFAULTS).clone()


def configurable(init_func: Callable) -> Callable:
    """Decorator of ``__init__``: lets a class also be built from a config in place of its own arguments.

    The class needs a classmethod ``from_config(cls, cfg, ...)`` that returns a dict of the constructor's arguments. It
    is used only if the first positional argument, or the keyword ``cfg``, is a config; arguments that it does not take
    override what it returned.

    Raises:
        TypeError: the decorator is put on something else, or ``from_config`` is missing or does not begin with ``cfg``.
    """
    if not inspect.isfunction(init_func) or init_func.__name__ != "__init__":
        raise TypeError("put @configurable on __init__")

    @functools.wraps(init_func)
    def construct(self: Any, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        translate = getattr(cls, "from_config", None)
        if not inspect.ismethod(translate):
            raise TypeError(f"{cls.__name__} is @configurable, so it needs a classmethod from_config(cls, cfg, ...)")
        if _is_config_call(args, kwargs):
            init_func(self, **_translate(translate, args, kwargs))
        else:
            init_func(self, *args, **kwargs)

    return construct


def _is_config_call(args: tuple, kwargs: dict) -> bool:
    return isinstance(args[0] if args else kwargs.get("cfg"), _FvcoreCfgNode)


def _translate(from_config: Callable, args: tuple, kwargs: dict) -> dict[str, Any]:
    """Run the translator on the arguments it takes, and let the others override its result."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        raise TypeError(f"{getattr(from_config, '__qualname__', from_config)} must take 'cfg' as its first argument")
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()):
        return from_config(*args, **kwargs)
    taken = {name: value for name, value in kwargs.items() if name in parameters}
    overrides = {name: value for name, value in kwargs.items() if name not in parameters}
    return {**from_config(*args, **taken), **overrides}
