"""The commands that are killed: small data for them, how they are called first and again, what is their result."""

from __future__ import annotations

import ast
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml

from mammo_d2.cli.arguments.command_line import EXIT_PARTIAL
from mammo_d2.core.identifiers import SALT_FILE
from mammo_d2.phantom.settings import PhantomConfig
from mammo_d2.phantom.writer import write_phantom
from tests.data.toy_dataset import write_dataset
from tests.data.toy_source import write_breasts
from tests.engine.toy_training import SETTINGS

#: Output folder of every command, in a working folder of its own.
OUT = "out"


@dataclass(frozen=True)
class Command:
    """A command on small data.

    Attributes:
        name: of the ``mammo-d2`` command.
        first: arguments of the first start, in a folder beside which the data lie; output goes to ``OUT``.
        again: what a user types after it was killed.
        same_as: files of a killed run's output that the undisturbed one needs, as they hold something random.
        unsettled: folders of an output folder whose content depends on time; they are removed before it is compared.
        exit_code: of a run that comes to its end.
    """

    name: str
    first: Sequence[str]
    again: Sequence[str]
    same_as: Sequence[str] = ()
    unsettled: Callable[[Path], Sequence[Path]] = lambda out: ()
    exit_code: int = 0


def make_data(folder: Path, small: bool = False) -> None:
    """Write the data of all commands: phantoms as DICOM files, rasters with boxes, a config and weights."""
    write_phantom(PhantomConfig(n_patients=2, rows=208, cols=160, seed=3), folder / "phantoms", progress=False)
    # A file that cannot be used, as there is in every folder.
    (folder / "phantoms" / "dicom" / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\1" * 40)
    for split in ("train", "val"):
        write_dataset(folder / "datasets", positives=3, negatives=3, split=split)
    images = folder / "images"
    images.mkdir()
    write_breasts(images, ["a_L-CC", "b_L-MLO", "c_L-CC", "d_L-CC"])
    (images / "e_L-CC.png").write_bytes(b"no image")
    settings = {
        **SETTINGS, "DATASETS.TEST": "['toy_val']", "DATASETS.ALLOW_SHARED_PATIENTS": "True",
        "DATASETS.ROOT": f"'{folder / 'datasets'}'", "DATALOADER.NUM_WORKERS": "1", "TEST.EVAL_PERIOD": "2",
        "TEST.BEST_METRIC": "'patient/auc'", "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0", "SOLVER.EMA.ENABLED": "True",
        "SOLVER.EMA.DECAY": "0.5", "TEST.LOSS_PERIOD": "3",
    }  # fmt: skip
    if small:
        settings |= {"SOLVER.MAX_ITER": "4", "SOLVER.STEPS": "[3]", "TEST.EVALUATORS": "['patient']"}
    content: dict[str, Any] = {}
    for key, value in settings.items():
        *parents, name = key.split(".")
        node = content
        for part in parents:
            node = node.setdefault(part, {})
        node[name] = _value(value)
    (folder / "toy.yaml").write_text(yaml.safe_dump(content))
    ranges = {"SOLVER.BASE_LR": {"float": [1e-5, 1e-2], "log": True}, "SOLVER.WEIGHT_DECAY": {"float": [0.0, 0.1]}}
    (folder / "ranges.yaml").write_text(yaml.safe_dump(ranges))
    _write_weights(folder / "toy.yaml", folder / "weights.pth")
    # prepare records the time of change of a source only if that is some seconds old: the same for all runs.
    old = time.time() - 3600
    for path in folder.rglob("*"):
        os.utime(path, (old, old))


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _write_weights(config: Path, path: Path) -> None:
    """Weights of a model that has boxes on every image."""
    from mammo_d2.config.loading import load_config
    from mammo_d2.engine.trainer import MammoTrainer, save_weights

    torch.manual_seed(0)
    model = MammoTrainer.build_model(load_config(str(config)))
    save_weights(model, path)


def pruned_trials(out: Path) -> list[Path]:
    """Folders of the trials that were ended early: how far their training came by then depends on time."""
    import json

    table = json.loads((out / "search.json").read_text())
    return [out / row["folder"] for row in table if row["state"] == "pruned"]


DATA = "../data"
_PREPARE = (
    "prepare", "dicom", "--source", f"{DATA}/phantoms/dicom", "--truth", f"{DATA}/phantoms/truth.json", "--out", OUT,
    "--crop", "--split", "0.5", "0", "0.5", "--workers", "2", "--quiet",
)  # fmt: skip
_TRAIN = ("train", "--config-file", f"{DATA}/toy.yaml")
_PREDICT = (
    "predict", "--config-file", f"{DATA}/toy.yaml", "--weights", f"{DATA}/weights.pth", "--input", f"{DATA}/images",
    f"{DATA}/phantoms/dicom", "--output", OUT, "--pictures", "--quiet",
)  # fmt: skip
_SEARCH = (
    "search", "--config-file", f"{DATA}/toy.yaml", "--ranges", f"{DATA}/ranges.yaml", "--output", OUT,
    "--pruner", "halving", "--top", "1", "--metric", "patient/auc", "--trials",
)  # fmt: skip


def commands(trials: int = 4) -> dict[str, Command]:
    """The commands by name.

    Args:
        trials: of the search.
    """
    found = (
        # Identifiers are hashed with a random secret; the undisturbed run gets that of the killed one.
        Command("prepare", _PREPARE, _PREPARE, same_as=[SALT_FILE]),
        Command("train", [*_TRAIN, "OUTPUT_DIR", OUT], [*_TRAIN, "--resume", "OUTPUT_DIR", OUT]),
        # One of the files is damaged, and left out.
        Command("predict", _PREDICT, [*_PREDICT, "--resume"], same_as=[SALT_FILE], exit_code=EXIT_PARTIAL),
        Command("search", [*_SEARCH, str(trials)], [*_SEARCH, str(trials)], unsettled=pruned_trials),
    )
    return {command.name: command for command in found}


def remove_unsettled(command: Command, out: Path) -> None:
    """Remove what depends on time from an output folder."""
    for path in command.unsettled(out):
        shutil.rmtree(path, ignore_errors=True)
