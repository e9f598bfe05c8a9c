"""The command ``benchmark``: where the time of a training step goes."""

import logging
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import write_json
from mammo_d2.core.processes.kept_memory import keep_freed_memory
from mammo_d2.data.format.catalog import check_names, register_datasets
from mammo_d2.engine.setup import use_available_device, use_float32_precision
from mammo_d2.engine.step_profile import profile_training
from mammo_d2.framework import CfgNode
from mammo_d2.jobs.job import Stage, build_job

PROFILE_FLAG = "--profile"
DESCRIPTION = """Profile the first steps of a training: loader, transfer, forward, backward, optimizer, hooks.

The training is that of --config-file, with its data sets and, if the file is there, its weights. Nothing is kept: the
OUTPUT_DIR is a temporary folder, and there are no evaluations and checkpoints. The loader works in this process
(DATALOADER.NUM_WORKERS 0), so that its CPU time is seen, unless --workers says otherwise.

CPU seconds are those of all threads of this process. On a machine that others use they mean more than wall seconds.

"loader, again" is the same images a second time: from the cache, where DATALOADER.CACHE_MB holds them. The operators
are those of one more step, by their own time; their sum is not the step's.

Examples:
    mammo-d2 benchmark train --profile --config-file mammo_d2://quickstart/phantom_top_likelihood.yaml
    mammo-d2 benchmark train --profile --config-file mammo_d2://quickstart/phantom_gmic.yaml --steps 4 \\
        --output profile.json MODEL.RESNET22.CHECKPOINTING True
"""
# Files of initial weights; they do not change the speed.
_WEIGHTS = ("MODEL.WEIGHTS", "MODEL.GMIC.PATCH_WEIGHTS", "MODEL.LESION.NETWORK_WEIGHTS", "FIRST_STAGE.WEIGHTS")


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "benchmark")
    train = parser.add_subparsers(dest="what", required=True).add_parser("train", help="the steps of a training")
    train.add_argument(PROFILE_FLAG, action="store_true", required=True, help="the parts of a step, in CPU seconds")
    train.add_argument("--config-file", required=True, help="config of the training")
    train.add_argument("--stage", default="", help="of a job with several trainings: its folder; default: the first")
    train.add_argument("--steps", type=int, default=5, help="counted steps")
    train.add_argument("--warmup", type=int, default=1, help="steps before that")
    train.add_argument("--workers", type=int, default=0, help="DATALOADER.NUM_WORKERS")
    train.add_argument("--operators", type=int, default=12, help="operators in the table; 0: none")
    train.add_argument("--output", type=Path, help="also write the figures to this JSON file")
    train.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")
    args = parser.parse_args(argv)
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        stage, trainer_class = _stage(args.config_file, [*args.opts, "OUTPUT_DIR", folder], args.stage)
        cfg = _prepared(stage.cfg, args.workers)
        logging.disable(logging.INFO)  # the trainer prints the model
        try:
            figures = profile_training(trainer_class, cfg, args.steps, args.warmup, args.operators)
        finally:
            logging.disable(logging.NOTSET)
    figures = {"config": args.config_file, "overrides": args.opts, "stage": stage.folder,
               "meta_architecture": cfg.MODEL.META_ARCHITECTURE, **figures}  # fmt: skip
    print(_tables(figures))
    if args.output:
        write_json(args.output, figures, indent=1)
    return 0


def _stage(config_file: str, opts: list[str], folder: str) -> tuple[Stage, Any]:
    """A training of a job, and what trains it.

    Raises:
        ValueError: there is none, or none of this name.
    """
    job = build_job(load_config(config_file, opts))
    stages = {stage.folder: stage for stage in job.stages()}
    if not stages or job.trainer_class is None:
        raise ValueError(f"{config_file}: {job.cfg.JOB} trains nothing")
    if folder not in stages and folder:
        known = ", ".join(repr(name) for name in stages)
        raise ValueError(f"--stage {folder!r}: the trainings of {config_file} have the folders {known}")
    stage = stages[folder] if folder else next(iter(stages.values()))
    trainer = job.trainer_class if stage.cfg.JOB == job.cfg.JOB else build_job(stage.cfg).trainer_class
    return stage, trainer


def _prepared(cfg: CfgNode, workers: int) -> CfgNode:
    """The config with a device, a seed and weights that are there; its data sets are registered."""
    cfg = cfg.clone()
    cfg.defrost()
    use_available_device(cfg)
    use_float32_precision(cfg)
    cfg.DATALOADER.NUM_WORKERS = workers
    cfg.SEED = max(cfg.SEED, 0)
    for key in _WEIGHTS:
        *parents, name = key.split(".")
        node = cfg
        for parent in parents:
            node = node[parent]
        if not Path(node[name]).is_file():
            node[name] = ""
    cfg.freeze()
    register_datasets(cfg)
    check_names(cfg, cfg.DATASETS.TRAIN)
    return cfg


def _tables(figures: dict[str, Any]) -> str:
    """The figures for people."""
    step, loader = figures["step"], figures["loader"]
    stage = f", {figures['stage']}" if figures["stage"] else ""
    head = (
        f"{figures['meta_architecture']} ({figures['config']}{stage}): {step['cpu_s']:.3f} CPU s, "
        f"{step['wall_s']:.3f} s a step of {step['images']} images; {step['images_per_s']:.2f} images/s; "
        f"peak memory {figures['memory']['memory_mb']:.0f} MiB; mean of {figures['steps']} steps"
    )
    parts = [[name, part["cpu_s"], part["wall_s"], 100 * part["share"]] for name, part in figures["parts"].items()]
    functions = [[f"- {what}", seconds] for what, seconds in loader["functions"].items()]
    rows = [["loader, first", loader["first_cpu_s"]], *functions, ["loader, again", loader["again_cpu_s"]]]
    operators = [[o["name"], o["calls"], 1000 * o["self_s"], 100 * o["share"]] for o in figures["operators"]]
    tables = [
        tabulate(parts, ["part", "CPU s", "wall s", "% of CPU"], floatfmt=("", ".4f", ".4f", ".1f")),
        tabulate(rows, ["loader, a step", "CPU s"], floatfmt=("", ".4f")),
    ]
    if operators:
        tables.append(tabulate(operators, ["operator", "calls", "own ms", "%"], floatfmt=("", ".0f", ".2f", ".1f")))
    return "\n\n".join([head, *tables])
