"""Full-size training on a GPU: images a second, peak memory, how busy the GPU is, losses in float16 and bfloat16.

Cases are models at their published size, contenders are settings of one case: detectron2's own trainer where it is
installed, ours on either engine, faster settings, and a process group (NCCL) of one process. All contenders of a case
share weights and images and make their steps in turns, each in a process of its own.

Everything is written after each case, and no case begins after ``--minutes``. With ``--tiny`` the same code runs on a
CPU, in this process, on models of a few channels: a test of the script, its figures mean nothing.
"""

import argparse
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from tabulate import tabulate

from benchmarks.train import Contender, answers_of
from benchmarks.train_worker import StepWorker, join_alone
from mammo_d2.config.loading import load_config
from mammo_d2.framework import ENGINE
from mammo_d2.framework.machine import machine_facts

#: Case → config and overrides.
CASES: dict[str, tuple[str, list[str]]] = {
    "R101-C4": ("configs/top_likelihood/R101_C4.yaml", []),
    "R101-FPN": ("configs/top_likelihood/R101_FPN.yaml", []),
    "GMIC": ("configs/gmic/GMIC.yaml", []),
    "dual-R50": ("configs/dual_branch/R50_cls_det_rs_end_to_end.yaml", []),
    "dual-VGGM": (
        "configs/dual_branch/VGGM128_cls_det_rs.yaml",
        ["MODEL.DUAL_BRANCH.FROZEN", "False", "MODEL.DUAL_BRANCH.SHARED_MAPS", "True", "SOLVER.IMS_PER_BATCH", "2"],
    ),
}
_COMMON = ["MODEL.WEIGHTS", "", "SOLVER.ACCUMULATE", "1", "SOLVER.EPOCHS", "0", "TEST.EVAL_EPOCHS", "0"]
_COMMON += ["SOLVER.CHECKPOINT_EPOCHS", "0"]
_TINY = [
    "MODEL.DEVICE", "cpu", "INPUT.SIZE", "[64, 64]", "SOLVER.IMS_PER_BATCH", "2", "MODEL.RESNETS.DEPTH", "50",
    "MODEL.RESNETS.STEM_OUT_CHANNELS", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "8",
    "MODEL.RESNETS.WIDTH_PER_GROUP", "2", "MODEL.FPN.OUT_CHANNELS", "8", "MODEL.ROI_BOX_HEAD.FC_DIM", "8",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "4", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "20",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "8", "MODEL.RESNET22.STEM_CHANNELS", "2",
    "MODEL.RESNET22.STRIDES", "[1, 2, 2, 1, 1]", "MODEL.GMIC.PATCH_SIZE", "[16, 16]", "MODEL.GMIC.NUM_PATCHES", "2",
    "MODEL.VGG_M.CHANNELS", "[4, 4, 4, 4, 4]", "MODEL.VGG_M.FC_DIMS", "[8, 8]", "MODEL.DUAL_BRANCH.FC_DIM", "8",
]  # fmt: skip
# A window of VGG-M is of one size, 224; the others' may be small.
_TINY_CASES = {"dual-R50": ["MODEL.SLIDING_WINDOW.SIZE", "32"], "dual-VGGM": ["INPUT.SIZE", "[224, 224]"]}
_FAST = ["SOLVER.CHANNELS_LAST", "True", "SOLVER.FUSED", "True"]


@dataclass(frozen=True)
class Setting:
    """How a contender trains.

    Attributes:
        name: in the table.
        overrides: of the config.
        trainer: "ours" or "plain", see ``StepWorker``.
        engine: "detectron2", "embedded" or "" for the one of this process.
        group: in a process group of its own process alone.
    """

    name: str
    overrides: tuple[str, ...] = ()
    trainer: str = "ours"
    engine: str = ""
    group: bool = False


def settings(with_detectron2: bool, device: str) -> list[Setting]:
    """The contenders of a case, the reference first: detectron2's own trainer in float32, else ours."""
    amp = {name: ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", name) for name in ("bfloat16", "float16")}
    ours = [
        Setting("embedded, float32", engine="embedded"),
        Setting("embedded, channels_last + fused", tuple(_FAST), engine="embedded"),
        Setting("embedded, + bfloat16", (*_FAST, *amp["bfloat16"]), engine="embedded"),
        Setting("embedded, + float16", (*_FAST, *amp["float16"]), engine="embedded"),
        Setting("embedded, float32, process group", engine="embedded", group=True),
    ]
    if with_detectron2:
        ours[:0] = [
            Setting("detectron2's trainer, float32", trainer="plain", engine="detectron2"),
            Setting("detectron2's trainer, float16", amp["float16"], "plain", "detectron2"),
            Setting("detectron2, our step, float32", engine="detectron2"),
        ]
    # float16 needs a GPU.
    return ours if device == "cuda" else [s for s in ours if "float16" not in s.overrides]


class InlineContender(Contender):
    """A contender in this process, for the test of the script."""

    worker: StepWorker

    def launch(self, config_file: str, overrides: Sequence[str], weights: str, threads: int) -> None:
        if self.group and not torch.distributed.is_initialized():
            join_alone(load_config(config_file, [*overrides]))
        self.worker = StepWorker(
            load_config(config_file, [*overrides, *self.overrides]), weights, self.trainer, self.calm, threads
        )
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def ask(self, request: str) -> dict:
        return {"ready": True} if request == "ready" else getattr(self.worker, request)()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cases", nargs="*", choices=[*CASES], default=[*CASES], help="models to measure")
    parser.add_argument("--steps", type=int, default=12, help="counted steps of each contender")
    parser.add_argument("--warmup", type=int, default=3, help="steps before counting")
    parser.add_argument("--minutes", type=float, default=8.0, help="begin no case after this time")
    parser.add_argument("--tiny", action="store_true", help="a test of the script on a CPU, in this process")
    parser.add_argument("--output", default="gpu.json", help="JSON file, written after each case")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides of all cases")


def run(args: argparse.Namespace) -> dict:
    """Run the benchmark, print a table a case.

    Returns:
        {"machine": ..., "gpu": name, "cases": {case: {contender: figures, see ``figures``, or {"error": text}}},
        "left_out": cases that there was no time for}.

    Raises:
        ValueError: no GPU and no ``--tiny``.
    """
    device = "cpu" if args.tiny else "cuda"
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("no GPU that torch can use; --tiny tests the script on a CPU")
    start = time.perf_counter()
    gpu = torch.cuda.get_device_name() if device == "cuda" else None
    found: dict[str, Any] = {"machine": machine_facts(), "gpu": gpu, "cases": {}, "left_out": []}
    for case in args.cases:
        if time.perf_counter() - start > 60 * args.minutes:
            found["left_out"].append(case)
        else:
            found["cases"][case] = _measure(case, args, device)
        with open(args.output, "w") as file:
            json.dump(found, file, indent=1)
    return found


def _measure(case: str, args: argparse.Namespace, device: str) -> dict[str, Any]:
    config_file, overrides = CASES[case]
    overrides = [*_COMMON, "MODEL.DEVICE", device, *overrides]
    if args.tiny:
        overrides += [*_TINY, *_TINY_CASES.get(case, [])]
    overrides += args.opts
    images = load_config(config_file, overrides).SOLVER.IMS_PER_BATCH
    with_detectron2 = not args.tiny and importlib.util.find_spec("detectron2") is not None
    kind: type[Contender] = InlineContender if args.tiny else Contender
    contenders = [
        kind(s.name, ENGINE if args.tiny or not s.engine else s.engine, list(s.overrides), trainer=s.trainer,
             group=s.group, calm=True, keep_memory=s.trainer == "ours")
        for s in settings(with_detectron2, device)
    ]  # fmt: skip
    errors: dict[str, str] = {}
    running = list(contenders)

    def attempt(contender: Contender, request: str) -> dict:
        """The answer; a contender that fails (out of memory, say) is left out from then on."""
        try:
            return contender.ask(request)
        except RuntimeError as error:
            errors[contender.name] = str(error)
            running.remove(contender)
            return {}

    with tempfile.TemporaryDirectory() as folder:
        weights = os.path.join(folder, "weights.pth")
        try:
            # The first writes the weights; the others then start at the same time.
            for contender in contenders:
                contender.launch(config_file, overrides, weights, 1 if args.tiny else 0)
                if contender is contenders[0]:
                    attempt(contender, "ready")
            for contender in [c for c in running if c is not contenders[0]]:
                attempt(contender, "ready")
            for step in range(args.warmup + args.steps):
                for contender in [*running]:
                    answers_of(contender, attempt(contender, "step"), counted=step >= args.warmup)
            busy = {contender.name: attempt(contender, "busy").get("device_s") for contender in [*running]}
        finally:
            for contender in contenders:
                if contender.process is not None:
                    contender.process.kill()
    found = figures(contenders, images, busy, errors)
    rows = [
        [name, *([values[key] for key in COLUMNS] if "error" not in values else [values["error"][:60]])]
        for name, values in found.items()
    ]
    print(tabulate(rows, (f"{case}, {images} images a step", *COLUMNS.values()), floatfmt=".4g"), "\n")
    return found


#: Figures of a contender and their headings.
COLUMNS = {
    "images_per_s": "images/s",
    "median_s": "median s/step",
    "time_ratio": "time ratio",
    "peak_mb": "peak MiB",
    "busy": "GPU busy",
    "first_loss_difference": "first loss, relative difference",
    "mean_loss_difference": "mean over the steps",
}


def figures(
    contenders: Sequence[Contender], images: int, busy: dict[str, float | None], errors: dict[str, str]
) -> dict[str, Any]:
    """What the table shows; ratios and differences are to the first contender without an error.

    Args:
        contenders: with their counted seconds and the losses of all steps.
        images: of a step.
        busy: {contender: seconds that the GPU computes in a step, or None}.
        errors: {contender: why it has no figures}.

    Returns:
        {contender: {key of ``COLUMNS``: number or None, "losses": [...]} or {"error": text}}.
    """
    whole = [contender for contender in contenders if contender.name not in errors]
    found: dict[str, Any] = {name: {"error": text} for name, text in errors.items()}
    for contender in whole:
        reference = whole[0]
        median = statistics.median(contender.seconds)
        ratios = [own / base for own, base in zip(contender.seconds, reference.seconds, strict=True)]
        differences = [abs(a - b) / abs(b) for a, b in zip(contender.losses, reference.losses, strict=True)]
        device_s = busy.get(contender.name)
        found[contender.name] = {
            "images_per_s": images / median,
            "median_s": median,
            "time_ratio": statistics.median(ratios),
            "peak_mb": contender.peak_mb,
            "busy": None if device_s is None else device_s / median,
            "first_loss_difference": differences[0],
            "mean_loss_difference": statistics.mean(differences),
            "losses": contender.losses,
        }
    return found
