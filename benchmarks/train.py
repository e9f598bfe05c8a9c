"""Training speed: the same config, weights and images on each engine and setting, one step each in turn.

Every contender is a process of its own (an engine is chosen once per process, and peak memory is per process); this
process asks them for a step in turn, so that drifts of the machine's speed affect all contenders alike.
"""

import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

FAST = ["SOLVER.CHANNELS_LAST", "True", "SOLVER.FUSED", "True", "SOLVER.AMP.ENABLED", "True"]
FAST += ["SOLVER.AMP.DTYPE", "bfloat16"]

ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Contender:
    """One setting: the engine, config overrides, and what was measured (seconds, total losses, peak MiB).

    With ``torchvision_roi_align`` the embedded engine pools regions by torchvision's kernels on the CPU, too; trainer,
    group and calm are those of ``benchmarks.train_worker``. ``keep_memory``: as our training command does.
    """

    name: str
    engine: str
    overrides: list[str]
    torchvision_roi_align: bool = False
    trainer: str = "ours"
    group: bool = False
    calm: bool = False
    keep_memory: bool = True
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    process: subprocess.Popen | None = None

    def start(self, config_file: str, overrides: Sequence[str], weights: str, threads: int) -> None:
        """Start the process and wait until its model is built."""
        self.launch(config_file, overrides, weights, threads)
        self.ask("ready")

    def launch(self, config_file: str, overrides: Sequence[str], weights: str, threads: int) -> None:
        """Start the process."""
        command = [sys.executable, "-m", "benchmarks.train_worker", "--config-file", config_file]
        command += ["--threads", str(threads), "--weights", weights]
        command += ["--torchvision-roi-align"] if self.torchvision_roi_align else []
        command += ["--keep-memory"] if self.keep_memory else []
        command += ["--trainer", self.trainer, *(["--group"] if self.group else []), *(["--calm"] if self.calm else [])]
        command += [*overrides, *self.overrides]
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**os.environ, "MAMMO_D2_ENGINE": self.engine, "PYTHONPATH": path}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, request: str) -> dict:
        """Send one request and wait for its JSON answer."""
        assert self.process is not None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise RuntimeError(f"the benchmark process of {self.name!r} ended early; its messages are above")


def answers_of(contender: Contender, answer: dict, counted: bool) -> None:
    """Note the answer to "step"; an empty one is none."""
    if not answer:
        return
    contender.losses.append(answer["loss"])
    contender.peak_mb = answer["peak_mb"]
    if counted:
        contender.seconds.append(answer["seconds"])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config-file", default="configs/top_likelihood/R101_FPN.yaml")
    parser.add_argument("--steps", type=int, default=8, help="counted steps of each contender")
    parser.add_argument("--warmup", type=int, default=2, help="steps before counting")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of each contender; 1: CPU seconds")
    parser.add_argument(
        "--roi-align", action="store_true", help="compare the embedded engine's ROIAlign on the CPU with torchvision's"
    )
    parser.add_argument("--output", default="", help="also write the figures to this JSON file")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides for all contenders")


def run(args: argparse.Namespace) -> dict:
    """Run the benchmark and print a table; the first row is the reference of the ratios.

    Returns:
        {contender: {"median_s", "peak_mb", "time_ratio", "memory_ratio",
        "first_loss_relative_difference"}}.
    """
    overrides = ["MODEL.RESNETS.DEPTH", "50", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *args.opts]
    contenders = [
        Contender("embedded, freed memory given back", "embedded", [], keep_memory=False),
        Contender("embedded, float32", "embedded", []),
        Contender("embedded, channels_last", "embedded", ["SOLVER.CHANNELS_LAST", "True"]),
        Contender("embedded, channels_last + bfloat16 + fused", "embedded", FAST),
    ]
    if args.roi_align:
        contenders = [
            Contender("torchvision's ROIAlign", "embedded", [], torchvision_roi_align=True),
            Contender("embedded engine's ROIAlign", "embedded", []),
        ]
    elif importlib.util.find_spec("detectron2") is not None:
        # As its own training script runs.
        contenders.insert(0, Contender("detectron2, float32", "detectron2", [], keep_memory=False))
    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.pth")
        try:
            for contender in contenders:
                contender.start(args.config_file, overrides, weights, args.threads)
            for step in range(args.warmup + args.steps):
                for contender in contenders:
                    answers_of(contender, contender.ask("step"), counted=step >= args.warmup)
        finally:
            for contender in contenders:
                if contender.process is not None:
                    contender.process.kill()
    return _report(contenders, args.output)


def _report(contenders: list[Contender], output: str) -> dict:
    reference = contenders[0]
    figures = {}
    for contender in contenders:
        ratios = [seconds / base for seconds, base in zip(contender.seconds, reference.seconds, strict=True)]
        difference = abs(contender.losses[0] - reference.losses[0]) / abs(reference.losses[0])
        figures[contender.name] = {
            "median_s": statistics.median(contender.seconds),
            "peak_mb": contender.peak_mb,
            "time_ratio": statistics.median(ratios),
            "memory_ratio": contender.peak_mb / reference.peak_mb,
            "first_loss_relative_difference": difference,
        }
    rows = [[name, *values.values()] for name, values in figures.items()]
    headers = [
        "contender",
        "median s/step",
        "peak MiB",
        "time ratio",
        "memory ratio",
        "first loss, relative difference",
    ]
    print(tabulate(rows, headers, floatfmt=("", ".3f", ".0f", ".3f", ".3f", ".2e")))
    if output:
        with open(output, "w") as file:
            json.dump(figures, file, indent=1)
    return figures
