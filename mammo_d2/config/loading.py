"""Load a configuration from default keys, a YAML file and overrides; errors name the remedy."""

import contextlib
import difflib
import re
from collections.abc import Iterator

from mammo_d2.config.epochs import check_epochs
from mammo_d2.config.keys import add_mammo_config
from mammo_d2.config.modules import import_modules, named_modules
from mammo_d2.config.monitoring import check_monitoring
from mammo_d2.config.named_configs import ConfigError, read_config
from mammo_d2.config.supervision import check_supervision
from mammo_d2.data.format.catalog import category_names
from mammo_d2.framework import CfgNode, get_cfg

# The message of yacs for a value of the wrong type: both types, both values (the config's first), the key.
_WRONG_TYPE = re.compile(
    r"Type mismatch \(<class '([\w.]+)'> vs\. <class '([\w.]+)'>\) with values \((.*) vs\. (.*)\) for config key: "
    r"([\w.]+)",
    re.DOTALL,
)


def load_config(config_file: str = "", overrides: list[str] | None = None) -> CfgNode:
    """Merge default keys, the YAML file and ``KEY VALUE`` overrides, in this order.

    ``MODEL.ROI_HEADS.NUM_CLASSES`` is set to the number of classes in ``DATASETS.CATEGORIES``. The modules in
    ``MODULES`` (of the file or the overrides) are imported first, so that the keys they add can be set (see
    ``import_modules``).

    Args:
        config_file: a YAML file, possibly with ``_BASE_``, or a ``mammo_d2://`` name (see ``find_config``); empty: the
            defaults.
        overrides: alternating keys and values.

    Raises:
        FileNotFoundError: no such file.
        ConfigError: an unknown key (the message names the nearest existing ones), a value of the wrong type, a file
            for another VERSION of the keys, or a module that cannot be imported.
    """
    cfg = get_cfg()
    add_mammo_config(cfg)
    defaults = cfg.clone()
    content = read_config(config_file) if config_file else {}
    overrides = list(overrides or ())
    _check_overrides(overrides)
    with _explained(cfg, "the command line" if "MODULES" in overrides[::2] else config_file):
        import_modules(cfg, named_modules(content, overrides))
    with _explained(cfg, config_file):
        if content.get("VERSION", cfg.VERSION) != cfg.VERSION:
            raise ValueError(
                f"VERSION is {content['VERSION']}, but the keys are those of VERSION {cfg.VERSION}; rename them to the "
                "current ones and set VERSION"
            )
        cfg.merge_from_other_cfg(CfgNode(content))
    with _explained(cfg, "the command line"):
        cfg.merge_from_list(overrides)
    _check_filled(cfg, defaults, config_file or "the command line")
    with _explained(cfg, "the command line" if "DATASETS.CATEGORIES" in overrides[::2] else config_file):
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(category_names(cfg))
    check_epochs(cfg)
    check_supervision(cfg)
    check_monitoring(cfg)
    return cfg


def _check_filled(cfg: CfgNode, defaults: CfgNode, where: str, prefix: str = "") -> None:
    """Raise if a key is null whose default is a number or list: the config library takes null for any value."""
    for key, default in defaults.items():
        value = cfg[key]
        if isinstance(default, CfgNode):
            _check_filled(value, default, where, f"{prefix}{key}.")
        elif value is None and isinstance(default, (bool, int, float, list, tuple)):
            raise ConfigError(f"{where}: {prefix}{key} is empty (null); write a value such as {default!r:.80}")


def _check_overrides(overrides: list[str]) -> None:
    """Check KEY VALUE pairs, with more precise errors than the config library's."""
    misplaced_options = [item for item in overrides[::2] if item.startswith("--")]
    if misplaced_options:
        raise ConfigError(
            f"the command line: {misplaced_options[0]} is not a config key; options go before the KEY VALUE overrides"
        )
    joined = [item for item in overrides[::2] if "=" in item]
    if joined:
        key, _, value = joined[0].partition("=")
        raise ConfigError(f"the command line: {joined[0]!r} is not KEY VALUE; write {key} {value}")
    if len(overrides) % 2:
        raise ConfigError(f"the command line: {overrides[-1]} has no value; overrides are KEY VALUE pairs")


@contextlib.contextmanager
def _explained(cfg: CfgNode, where: str) -> Iterator[None]:
    """Turn the config library's exceptions into a ``ConfigError`` with place, key and nearest existing keys."""
    try:
        yield
    except (KeyError, ValueError, AssertionError, AttributeError) as error:
        message = str(error.args[0]) if error.args else type(error).__name__
        wrong_type = _WRONG_TYPE.search(message)
        if wrong_type:
            raise ConfigError(f"{where}: {_explain_type(*wrong_type.groups())}") from error
        unknown = re.search(r"Non-existent (?:config )?key: ([\w.]+)", message)
        if unknown is None:
            raise ConfigError(f"{where}: {message}") from error
        key = unknown.group(1)
        near = difflib.get_close_matches(key, list(_keys(cfg)), n=3, cutoff=0.6)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; mammo_d2/config/keys.py lists the added keys"
        raise ConfigError(f"{where}: there is no config key {key}{hint}") from error


def _explain_type(wanted: str, given: str, default: str, value: str, key: str) -> str:
    """Describe a value of the wrong type and how to write it."""
    remedies = {
        ("float", "int"): f"write {value}.0",
        ("tuple", "str"): f"write \"['{value}']\"",
        ("list", "str"): f"write \"['{value}']\"",
        ("tuple", "int"): f'write "[{value}]"',
        ("list", "int"): f'write "[{value}]"',
        ("bool", "str"): "write True or False",
        ("bool", "int"): "write True or False",
        ("str", "int"): f"write \"'{value}'\"",
        ("str", "float"): f"write \"'{value}'\"",
    }
    if wanted.endswith("CfgNode"):  # its default is a text of many lines
        return f"{key} is {value} ({given}), but is a group of keys; write them below it, each with its value"
    example = f"such as {default}" if default not in ("", "()", "[]") else "of that type"
    remedy = remedies.get((wanted, given), f"write a value {example}")
    return f"{key} is {value} ({given}), but must be of type {wanted.rsplit('.', 1)[-1]}; {remedy}"


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{name}.")
        yield f"{prefix}{name}"
