"""Which trained models a command uses: config files and weights, or models that the package brings with it."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mammo_d2.engine.run_files.run_folder import CONFIG_FILE
from mammo_d2.framework.weights.shipped_models import CARD, CONFIG, DEFAULT_MODEL, PREFIX, find_model, model_names


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``--config-file`` and ``--weights``, each of which may be given several times."""
    parser.add_argument(
        "--config-file",
        default=[],
        action="append",
        help=f"config of the model; of several models: one for all, or one each, in order [{CONFIG_FILE} beside the "
        "weights]",
    )
    parser.add_argument(
        "--weights",
        default=[],
        action="append",
        help=f"its trained weights, model_final.pth, or {PREFIX}NAME; given several times: boxes of all models are "
        f"fused [{DEFAULT_MODEL}]",
    )


def choose_models(configs: Sequence[str], weights: Sequence[str]) -> list[tuple[str, str]]:
    """Config file and weights of each model.

    Args:
        configs: of ``--config-file``.
        weights: of ``--weights``; without any, the package's own detector.

    Raises:
        ValueError: a config without weights, as many configs as there are no weights for, or weights whose config is
            not known.
        FileNotFoundError: the package has no such model.
    """
    if configs and not weights:
        raise ValueError(f"--config-file {configs[0]} needs the model's --weights, e.g. model_final.pth of its run")
    named = list(weights) or [DEFAULT_MODEL]
    if len(configs) not in (0, 1, len(named)):
        raise ValueError(f"{len(configs)} --config-file but {len(named)} --weights: give one, or one each")
    given = list(configs) * (len(named) if len(configs) == 1 else 1) or [_config_of(name) for name in named]
    return list(zip(given, named, strict=True))


def model_lines(models: Sequence[tuple[str, str]]) -> list[str]:
    """For each model of the package among these: what it is, and where its card lies."""
    return [
        f"model: {name}, research software and no medical device; data, results and limits: {find_model(name) / CARD}"
        for _, name in models
        if name.startswith(PREFIX)
    ]


def _config_of(weights: str) -> str:
    if weights.startswith(PREFIX):
        return str(find_model(weights) / CONFIG)
    beside = Path(weights).parent / CONFIG_FILE
    if not beside.is_file():
        known = ", ".join(PREFIX + name for name in model_names()) or "none"
        raise ValueError(
            f"--weights {weights}: there is no {CONFIG_FILE} beside it; name the config it was trained with, "
            f"--config-file (the package's own models, {known}, need none)"
        )
    return str(beside)
