"""GMIC at full resolution on one thread: what each setting gains at inference, and peak memory.

Contenders share their weights and take turns image by image in one process. Memory is that of a process of its own.
"""

import argparse
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.memory import peak_mib
from mammo_d2.config.loading import load_config
from mammo_d2.core.processes.kept_memory import keep_freed_memory
from mammo_d2.framework import build_model
from mammo_d2.inference.convert_gmic import GMIC_CONFIG
from mammo_d2.modeling.fold_norm import compile_networks, fold_norms

SIZE = (2944, 1920)
# (first row, last row, width) of the breast in the window.
SHAPES = {"CC-shaped": (460, 2480, 800), "full width": (0, 2944, 1820)}
SKIP = ("MODEL.RESNET22.SKIP_BACKGROUND", "True")


def channels_last(model: nn.Module) -> None:
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


@dataclass
class Contender:
    """One setting: config overrides, what is done to the model, and its seconds and outputs per image shape."""

    name: str
    overrides: tuple[str, ...] = ()
    steps: tuple[Callable[[nn.Module], object], ...] = ()
    seconds: dict[str, list[float]] = field(default_factory=dict)
    outputs: dict[str, list[Tensor]] = field(default_factory=dict)
    model: nn.Module | None = None

    def build(self, weights: dict[str, Tensor] | None) -> dict[str, Tensor]:
        model = full_model(*self.overrides).eval()
        if weights is not None:
            model.load_state_dict(weights)
        state = {name: value.clone() for name, value in model.state_dict().items()}
        for step in self.steps:
            step(model)
        self.model = model
        return state


def full_model(*overrides: str) -> nn.Module:
    """The released architecture with random weights and plausible normalisation statistics."""
    torch.manual_seed(0)
    return build_model(load_config("", [*GMIC_CONFIG, *overrides]))


def synthetic_window(shape: str) -> Tensor:
    """(1, 1, 2944, 1920) noise in a rectangle at the chest wall, constant around it, standardised."""
    first, last, width = SHAPES[shape]
    window = torch.zeros(1, 1, *SIZE)
    window[..., first:last, :width] = 1 + torch.rand(last - first, width, generator=torch.Generator().manual_seed(0))
    return (window - window.mean()) / window.std()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="counted images of each contender and shape")
    parser.add_argument("--threads", type=int, default=1, help="torch threads")
    parser.add_argument(
        "--compile", action="store_true", help="also torch.compile (needs a C++ compiler, takes minutes)"
    )
    parser.add_argument("--training-memory", action="store_true", help="also the peak memory of a training step")
    parser.add_argument("--output", default="", help="also write the figures to this JSON file")


def run(args: argparse.Namespace) -> dict:
    """Run the benchmark and print tables; ratios are plain seconds over a contender's, medians of the rounds.

    Returns:
        {"speed": {shape: {contender: {"median_s", "speedup", "largest_difference", "same_patches"}}},
        "memory_mib": {what: MiB}}.
    """
    torch.set_num_threads(args.threads)
    keep_freed_memory()  # as predict does
    contenders = [
        Contender("plain"),
        Contender("background skipped", SKIP),
        Contender("channels_last", (), (channels_last,)),
        Contender("norms folded, channels_last", (), (fold_norms, channels_last)),
        Contender("background, folded, channels_last", SKIP, (fold_norms, channels_last)),
    ]
    if args.compile:
        contenders.append(Contender("compiled", (), (fold_norms, compile_networks)))
    weights = None
    for contender in contenders:
        weights = contender.build(weights)
    speed = {shape: _race(contenders, shape, args.rounds) for shape in SHAPES}
    jobs = {"inference": ("inference", ()), "inference, all options": ("inference", SKIP)}
    if args.training_memory:
        jobs["training step"] = ("training", ())
        jobs["training step, checkpointing"] = ("training", ("MODEL.RESNET22.CHECKPOINTING", "True"))
    memory = {name: _peak_memory(*job) for name, job in jobs.items()}
    print(tabulate(memory.items(), ("process", "peak MiB"), floatfmt=".0f"))
    figures = {"speed": speed, "memory_mib": memory}
    if args.output:
        with open(args.output, "w") as file:
            json.dump(figures, file, indent=1)
    return figures


def _race(contenders: list[Contender], shape: str, rounds: int) -> dict[str, dict[str, float]]:
    window = synthetic_window(shape)
    with torch.inference_mode():
        for number in range(rounds + 1):  # the first is not counted
            for contender in contenders:
                start = time.process_time()
                output = contender.model.predict(window)  # type: ignore[union-attr,operator]
                seconds = time.process_time() - start
                if number:
                    contender.seconds.setdefault(shape, []).append(seconds)
                contender.outputs[shape] = [output.saliency, output.fusion_logits.sigmoid(), output.positions]
    plain, figures = contenders[0], {}
    for contender in contenders:
        pairs = zip(plain.seconds[shape], contender.seconds[shape], strict=True)
        saliency, scores, positions = contender.outputs[shape]
        differences = [(saliency - plain.outputs[shape][0]).abs().max(), (scores - plain.outputs[shape][1]).abs().max()]
        figures[contender.name] = {
            "median_s": statistics.median(contender.seconds[shape]),
            "speedup": statistics.median(plain_s / own_s for plain_s, own_s in pairs),
            "largest_difference": float(max(differences)),
            "same_patches": float(torch.equal(positions, plain.outputs[shape][2])),
        }
    rows = [[name, *values.values()] for name, values in figures.items()]
    headers = (shape, "median CPU s", "speed-up", "largest difference", "same patches")
    print(tabulate(rows, headers, floatfmt=("", ".2f", ".2f", ".1e", ".0f")))
    return figures


def _peak_memory(kind: str, overrides: tuple[str, ...]) -> float:
    """Peak resident MiB of a fresh process that handles one image."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_one_image, (kind, overrides))


def _one_image(kind: str, overrides: tuple[str, ...]) -> float:
    torch.set_num_threads(1)
    keep_freed_memory()
    model, window = full_model(*overrides), synthetic_window("CC-shaped")
    if kind == "training":
        record = {"image": window[0], "labels": {"benign": 0, "malignant": 1}}
        sum(model.train()([record]).values()).backward()
    else:
        with torch.inference_mode():
            model.eval().predict(window)  # type: ignore[operator]
    return peak_mib()
