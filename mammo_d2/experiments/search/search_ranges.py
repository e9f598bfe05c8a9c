"""Search ranges: the YAML file that names them, and the config overrides that a choice of values makes.

SOLVER.BASE_LR: {float: [10^-5.5, 10^-3.8], log: true}
MODEL.GMIC.NUM_PATCHES: {int: [2, 8]}
MODEL.GMIC.FUSION: {choice: [average, concat]}
MODEL.LESION.PATCH_STAGE.SOLVER.BASE_LR: {float: [1e-6, 1e-4], log: true}   # a key inside a stage's overrides
"""

import ast
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mammo_d2.config.loading import ConfigError, load_config
from mammo_d2.config.named_configs import find_config
from mammo_d2.core.files import read_yaml
from mammo_d2.framework import CfgNode
from mammo_d2.jobs.job import build_job

#: Keys that the search itself decides.
RESERVED = ("OUTPUT_DIR", "DATASETS.TEST", "TEST.BEST_METRIC", "TEST.BEST_MODE", "MODEL.WEIGHTS")

_FORMS = "{float: [low, high]}, {int: [low, high]} (either with log: true) or {choice: [...]}"


@dataclass(frozen=True)
class Range:
    """The values that a config key may take.

    Attributes:
        key: of the config; of a stage's overrides if it begins with one of the job's ``stage_keys``.
        kind: "float", "int" or "choice".
        values: lowest and highest value (both included), or the choices.
        log: numbers are drawn uniformly in their logarithm.
    """

    key: str
    kind: str
    values: tuple
    log: bool = False

    def suggest(self, trial: Any) -> Any:
        """The value of an Optuna trial, drawn now or earlier."""
        if self.kind == "choice":
            # Optuna stores scalars only.
            return self.value(trial.suggest_categorical(self.key, [repr(value) for value in self.values]))
        draw = trial.suggest_float if self.kind == "float" else trial.suggest_int
        return draw(self.key, *self.values, log=self.log)

    def value(self, stored: Any) -> Any:
        """The config's value for what Optuna stores."""
        return ast.literal_eval(stored) if self.kind == "choice" else stored

    def as_yaml(self) -> dict[str, Any]:
        """As in the file, numbers evaluated."""
        return {self.kind: list(self.values), **({"log": True} if self.log else {})}


def load_ranges(path: str, config_file: str, overrides: Sequence[str] = ()) -> list[Range]:
    """Read ranges and try every bound and every choice on the config.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a mapping of keys to ranges, a key that the config does not have, or a value that does not fit
            it; with file, key, value and what would be right.
    """
    content = read_yaml(find_config(path))
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: expected a mapping of config key to range, KEY: {_FORMS}; got {content!r:.80}")
    stage_keys = build_job(load_config(config_file, list(overrides))).stage_keys
    ranges = []
    for key, value in content.items():
        found = _range(path, str(key), value)
        if key in RESERVED:
            raise ValueError(f"{path}: {key} is decided by the search; take it out")
        stage = _stage_of(found.key, stage_keys)
        inner = key if stage is None else key[len(stage) + 1 :]
        for tried in found.values:
            try:
                load_config(config_file, [*overrides, inner, _text(tried)])
            except ConfigError as error:
                raise ValueError(f"{path}: {key}: {str(error).removeprefix('the command line: ')}") from error
        ranges.append(found)
    return ranges


def _range(path: str, key: str, value: Any) -> Range:
    kinds = [kind for kind in ("float", "int", "choice") if isinstance(value, dict) and kind in value]
    if len(kinds) != 1 or set(value) - {*kinds, "log"} or (kinds == ["choice"] and "log" in value):
        raise ValueError(f"{path}: {key}: {value!r} is no range; write {_FORMS}")
    kind, log = kinds[0], value.get("log", False)
    values = value[kind]
    if not isinstance(log, bool):
        raise ValueError(f"{path}: {key}: log is {log!r}; write true or false")
    if kind == "choice":
        if not isinstance(values, list) or len({repr(choice) for choice in values}) != len(values) or not values:
            raise ValueError(f"{path}: {key}: choice is {values!r}; write a list of different values")
        return Range(key, kind, tuple(values))
    if not isinstance(values, list) or len(values) != 2:
        raise ValueError(f"{path}: {key}: {kind} is {values!r}; write [low, high]")
    low, high = (_number(path, key, bound, kind) for bound in values)
    if not low < high or (log and low <= 0):
        raise ValueError(f"{path}: {key}: {values!r} must rise{' and begin above 0 (log: true)' if log else ''}")
    return Range(key, kind, (low, high), log)


def _number(path: str, key: str, value: Any, kind: str) -> Any:
    """A bound. YAML reads 1e-5 as text, and papers write 10^-5.5 or e^-1.6: all are numbers here."""
    text = str(value).strip()
    power = re.fullmatch(r"(10|e)\^([-+]?\d+(?:\.\d*)?)", text)
    try:
        if power:
            number = (math.e if power[1] == "e" else 10.0) ** float(power[2])
        else:
            number = float(text)
    except ValueError:
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number) or (kind == "int" and not number.is_integer()):
        raise ValueError(f"{path}: {key}: {value!r} is no {kind}")
    return int(number) if kind == "int" else number


def _stage_of(key: str, stage_keys: Sequence[str]) -> str | None:
    return next((stage for stage in stage_keys if key.startswith(f"{stage}.")), None)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def value_of(cfg: CfgNode, key: str) -> Any:
    """Value of a dotted key."""
    node: Any = cfg
    for part in key.split("."):
        node = node[part]
    return node


def overrides_of(cfg: CfgNode, parameters: Mapping[str, Any]) -> list[str]:
    """KEY VALUE overrides of a trial's parameters; those inside a stage are added to the stage's own.

    Args:
        cfg: the config without them.
        parameters: value by a range's key.
    """
    stage_keys = build_job(cfg).stage_keys
    overrides: list[str] = []
    stages: dict[str, list] = {}
    for key, value in parameters.items():
        stage = _stage_of(key, stage_keys)
        if stage is None:
            overrides += [key, _text(value)]
        else:
            stages.setdefault(stage, list(value_of(cfg, stage))).extend([key[len(stage) + 1 :], value])
    return overrides + [item for stage, values in stages.items() for item in (stage, repr(values))]
