"""The console command ``mammo-d2``, also run as ``python -m mammo_d2``: one sub-command per module of its folders."""

from __future__ import annotations

import argparse
import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from mammo_d2 import __version__
from mammo_d2.cli.arguments.command_line import HELP_EPILOG, TRACEBACK_FLAG, run_tool

#: Folder of this package → its commands and their lines in the help. A command's module has its name, with underscores.
GROUPS = {
    "data": {
        "prepare": "prepare a data set from source files or phantoms, or validate one",
        "browse": "look at a prepared data set",
    },
    "training": {
        "train": "train or evaluate a method from its config",
        "ablation": "train variants of a config with several seeds, in one table",
        "cross-validate": "train patient-wise folds, in one table",
        "compare": "train and test any methods on the same patients, in one table",
        "search": "search hyper-parameters on a validation set",
        "benchmark": "profile the steps of a training",
        "convert-weights": "convert checkpoints of other programs, or pack a run to hand on",
        "export-model": "write a trained model as ONNX or TorchScript",
    },
    "results": {
        "predict": "find lesions in image files with a trained model",
        "export-dicom": "write predictions as DICOM reports, presentation states and segmentations",
        "classify-lesions": "score the malignancy of given lesions",
        "evaluate": "evaluate result files of any detector or classifier",
        "stats": "calibration, comparisons, reader studies, clinical numbers, sample sizes",
        "report": "write the HTML report of a finished run",
        "average-scores": "average the image scores of several runs and a reader",
    },
    "installation": {
        "doctor": "look at the installation: engine, versions, decoders, GPUs, threads",
        "demo": "run everything once on phantoms: data, training, evaluation, report",
    },
}
COMMANDS = {name: group for group, commands in GROUPS.items() for name in commands}


def _listing() -> str:
    """The commands of each group, a line each."""
    lines = []
    for group, commands in GROUPS.items():
        lines += [f"{group}:", *(f"  {name:17s} {line}" for name, line in commands.items()), ""]
    return "\n".join(lines)


DESCRIPTION = f"""Detection and weak supervision on mammograms; research software and no medical device.

Details of a command: mammo-d2 COMMAND --help

{_listing()}
A config file is a path or a config of the package, e.g. mammo_d2://quickstart/phantom_top_likelihood.yaml.
"""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run a sub-command and exit with its code.

    Only the module of the sub-command is imported, so a command needs no dependencies of the others.

    Args:
        argv: arguments without the program's name; ``sys.argv[1:]`` by default.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    # As with python -m: MODULES of a config are found in the current folder.
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    name = next((argument for argument in arguments if argument != TRACEBACK_FLAG), "")
    if name not in COMMANDS:
        _parse(arguments)
    arguments.remove(name)
    run_tool(partial(_run, name), arguments)


def _run(name: str, arguments: list[str]) -> int:
    return importlib.import_module(f"mammo_d2.cli.{COMMANDS[name]}.{name.replace('-', '_')}").run(arguments)


def _parse(arguments: list[str]) -> NoReturn:
    """--help, --version, or an error that names the nearest commands."""
    parser = argparse.ArgumentParser(
        "mammo-d2", "mammo-d2 [--help] [--version] COMMAND ...", DESCRIPTION, HELP_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--version", action="version", version=f"mammo_d2 {__version__}")
    parser.add_argument("command", metavar="COMMAND", nargs="?", help=argparse.SUPPRESS)
    args, _ = parser.parse_known_args(arguments)
    if args.command is None:
        parser.error("which command? mammo-d2 --help lists them")
    near = difflib.get_close_matches(args.command.replace("_", "-"), COMMANDS, n=3)
    hint = f"did you mean {' or '.join(near)}?" if near else "mammo-d2 --help lists them"
    parser.error(f"there is no command {args.command!r}; {hint}")
