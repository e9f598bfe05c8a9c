"""Config files by name: ``mammo_d2://quickstart/phantom_top_likelihood.yaml`` is a file of this package's configs.

Names are resolved to paths before a file is opened, not by a handler of the framework's path manager. The two engines
read configs through different path managers, and a handler would not see names in ``_BASE_``: the config library takes
them for paths relative to the file.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any

import yaml

from mammo_d2.core.files import read_yaml
from mammo_d2.framework import CfgNode
from mammo_d2.framework.weights.shipped_models import PREFIX


class ConfigError(ValueError):
    """A configuration file or override that does not fit the known keys."""


def configs_folder() -> Path:
    """Folder of the package's configs: inside an installed package, beside the package in a checkout."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def config_names() -> list[str]:
    """Names of the package's configs, e.g. ``mammo_d2://gmic/GMIC.yaml``, sorted."""
    folder = configs_folder()
    return sorted(PREFIX + path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml"))


def find_config(name: str | os.PathLike[str]) -> str:
    """Path of a config file.

    Args:
        name: ``mammo_d2://`` and a path below the package's configs, or the path of any file, which is returned
            unchanged.

    Raises:
        FileNotFoundError: no such file; the message names similar configs of the package.
    """
    text = os.fspath(name)
    path = text
    if text.startswith(PREFIX):
        path = os.path.normpath(configs_folder() / text.removeprefix(PREFIX))
    if not os.path.isfile(path):
        near = _similar(text)
        hint = f"did you mean {' or '.join(near)}?" if near else f"the configs of the package are in {configs_folder()}"
        raise FileNotFoundError(f"config file {text} does not exist; {hint}")
    return path


def config_that_makes(weights: str | os.PathLike[str]) -> str | None:
    """Name of the package's config whose OUTPUT_DIR is called as the folder of some weights; None if there is none."""
    folder = Path(weights).parent.name
    made = (name for name in config_names() if Path(str(read_config(name).get("OUTPUT_DIR", ""))).name == folder)
    return next(made, None) if folder else None


def relative_config(name: str, folder: str | os.PathLike[str]) -> str:
    """Value of ``_BASE_`` for a file in ``folder``: the config file's relative path or ``mammo_d2://`` name."""
    return name if name.startswith(PREFIX) else os.path.relpath(name, folder)


def read_config(name: str | os.PathLike[str]) -> dict[str, Any]:
    """Content of a config file as plain data, with everything inherited through ``_BASE_``.

    Raises:
        FileNotFoundError: the file, or one it names in ``_BASE_``, does not exist.
        ConfigError: not UTF-8 text, not plain YAML, a ``_BASE_`` that is no file name or leads back to its own file, or
            a file without config keys.
    """
    path = find_config(name)
    if os.path.isfile(path):
        read_yaml(path, error=ConfigError)  # a key that is there twice is no error of the config library
    try:
        content = _Reader.load_yaml_with_base(path, allow_unsafe=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{name}: this file, or one it names in _BASE_, names a missing file: {error}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{name}: this file, or one it names in _BASE_, is not UTF-8 text ({error.reason} at byte {error.start}); "
            "save it as UTF-8"
        ) from error
    except RecursionError as error:
        raise ConfigError(f"{name}: its _BASE_ leads back to a file itself, or it is nested too deeply") from error
    except (AttributeError, OSError) as error:  # the config library's error for a base that is no text; a folder
        raise ConfigError(f"{name}: _BASE_ must be the name of a file, or a list of names ({error})") from error
    except TypeError:  # the config library's error for an empty file, or an empty base
        content = None
    except yaml.YAMLError as error:
        raise ConfigError(f"{name}: this file, or one it names in _BASE_, is not plain YAML: {error}") from error
    except AssertionError as error:  # the config library's error for a value where the base has a group of keys
        raise ConfigError(f"{name}: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{name}: this file, or one it names in _BASE_, does not hold configuration keys")
    _check_keys(name, content)
    return content


def _check_keys(name: str | os.PathLike[str], content: dict[Any, Any]) -> None:
    """Check that the keys of all groups are text; YAML also has others."""
    for key, value in content.items():
        if not isinstance(key, str):
            raise ConfigError(f"{name}: the config key {key!r} is no text; write the name of a key before the colon")
        if isinstance(value, dict):
            _check_keys(name, value)


class _Reader(CfgNode):
    """The config library's reader with ``mammo_d2://`` names resolved by ``find_config``."""

    @classmethod
    def _open_cfg(cls, filename: str) -> Any:
        # The config library prepends the folder of the file to a name in _BASE_.
        _, prefix, name = filename.rpartition(PREFIX)
        return super()._open_cfg(find_config(prefix + name) if prefix else filename)


def _similar(name: str) -> list[str]:
    """Up to three names of the package's configs with the same file name, or else a similar spelling."""
    wanted = name.removeprefix(PREFIX).removeprefix("./").removeprefix("configs/")
    known = [config.removeprefix(PREFIX) for config in config_names()]
    same = [config for config in known if Path(config).name == Path(wanted).name]
    near = same or difflib.get_close_matches(wanted, known, n=3, cutoff=0.7)
    return [PREFIX + config for config in near[:3]]
