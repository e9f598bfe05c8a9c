"""From command-line arguments to a checked, frozen configuration."""

import argparse
import logging
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import torch

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import ConfigError, config_that_makes, find_config, read_config
from mammo_d2.core.files import atomic_write, make_folder, write_json
from mammo_d2.data.format.annotations import check_splits
from mammo_d2.data.format.catalog import are_surely_apart, check_names, register_datasets
from mammo_d2.engine.run_files.preparation_record import record_preparation
from mammo_d2.engine.run_files.run_folder import CONFIG_FILE, EVALUATION_CONFIG_FILE, MACHINE_FILE
from mammo_d2.framework import (
    ENGINE,
    CfgNode,
    DatasetCatalog,
    MetadataCatalog,
    comm,
    default_setup,
    setup_logger,
)
from mammo_d2.framework.machine import machine_facts

# The training's config while the framework's set-up writes that of an evaluation in its place.
_KEPT_CONFIG = ".config.yaml.kept"

logger = logging.getLogger(__name__)


def setup(args: argparse.Namespace, complete: Callable[[CfgNode], None] | None = None) -> CfgNode:
    """Load the config, decide seed and device, register and look at the data sets, set up logging and output folder.

    What is wrong with the config or the data sets is found before anything in the output folder changes. An evaluation
    leaves a training's ``config.yaml`` there alone and writes ``config_eval.yaml``.

    How the training images were prepared goes to ``OUTPUT_DIR/preparation.json``, for prediction; CPU, threads and
    versions to ``machine.json``.

    A negative SEED becomes a fresh one, recorded in ``OUTPUT_DIR/config.yaml``; ``--resume`` takes it from there, so
    that the data order goes on where it was, and so does ``--eval-only``.

    Args:
        args: of the command.
        complete: sets what follows from config and data sets, in place, before the config is stored; not called with
            ``--eval-only``, for which the training data need not be there.

    Raises:
        ConfigError, FileNotFoundError: see ``load_config``; also a MODEL.DEVICE that is not a process's own GPU.
        FileNotFoundError: MODEL.WEIGHTS does not exist (with ``--resume`` they may not be needed).
        ValueError: data sets that are not registered, or that share patients; an output folder that cannot be written.
    """
    cfg = load_config(args.config_file, args.opts)
    _restore_config(Path(cfg.OUTPUT_DIR))
    wanted = cfg.MODEL.DEVICE
    use_available_device(cfg)
    check_device(cfg)
    if cfg.SEED < 0:
        cfg.SEED = _recorded_seed(cfg.OUTPUT_DIR) if args.resume or args.eval_only else -1
        if cfg.SEED < 0:
            cfg.SEED = draw_seed()
    cfg.freeze()
    eval_only = getattr(args, "eval_only", False)
    if not args.resume:
        check_weights(cfg.MODEL.WEIGHTS)
    register_datasets(cfg)
    check_names(cfg, cfg.DATASETS.TEST if eval_only else (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST))
    if not cfg.DATASETS.ALLOW_SHARED_PATIENTS:
        check_patients_apart(cfg)
    if complete is not None and not eval_only:
        complete(cfg)
    _set_up_output(cfg, args)
    if wanted != cfg.MODEL.DEVICE:
        logger.warning("MODEL.DEVICE is %s, but there is no GPU that torch can use: running on the CPU", wanted)
    if cfg.SOLVER.DETERMINISTIC:
        # Without it torch refuses every matrix product on a GPU.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
    if comm.is_main_process() and not eval_only:
        record_preparation(cfg)
        write_json(Path(cfg.OUTPUT_DIR) / MACHINE_FILE, machine_facts())
    return cfg


def _restore_config(folder: Path) -> None:
    """Undo what an evaluation that was killed has left."""
    if comm.is_main_process() and (folder / _KEPT_CONFIG).is_file():
        os.replace(folder / _KEPT_CONFIG, folder / CONFIG_FILE)
    comm.synchronize()


def _set_up_output(cfg: CfgNode, args: argparse.Namespace) -> None:
    """The framework's set-up of log, output folder and seeds."""
    folder = Path(cfg.OUTPUT_DIR)
    if comm.is_main_process():
        make_folder(folder, "OUTPUT_DIR")
    config, kept = folder / CONFIG_FILE, folder / _KEPT_CONFIG
    keep = getattr(args, "eval_only", False) and config.is_file()
    comm.synchronize()
    if keep and comm.is_main_process():
        with atomic_write(kept) as file:
            file.write(config.read_bytes())
    # It logs the file's content, and knows no names of configs.
    config_file = find_config(args.config_file) if args.config_file else ""
    default_setup(cfg, argparse.Namespace(**{**vars(args), "config_file": config_file}))
    if ENGINE == "detectron2":  # it opens the log for its own messages and fvcore's
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="mammo_d2")
    if keep and comm.is_main_process():
        written, evaluation = config.read_bytes(), folder / EVALUATION_CONFIG_FILE
        # The same config: that of an evaluation that was killed, in a folder of its own.
        if written != kept.read_bytes() or evaluation.is_file():
            with atomic_write(evaluation) as file:
                file.write(written)
        os.replace(kept, config)


def check_weights(weights: str) -> None:
    """Check that a file of weights exists, before anything is built; addresses are left to the checkpointer.

    Args:
        weights: MODEL.WEIGHTS.

    Raises:
        FileNotFoundError: it does not; with the config of this package that makes it, if there is one.
    """
    if not weights or "://" in weights or "?" in weights or os.path.isfile(weights):
        return
    maker = config_that_makes(weights)
    remedy = "check the path, or start from random weights with MODEL.WEIGHTS ''"
    if maker is not None:
        remedy = (
            f"mammo-d2 train --config-file {maker} makes it (the head of that file says from what); or start from "
            "random weights with MODEL.WEIGHTS ''"
        )
    raise FileNotFoundError(f"MODEL.WEIGHTS {weights} does not exist; {remedy}")


def check_patients_apart(cfg: CfgNode) -> None:
    """Look for patients and source images that are in a training and in a test set.

    A set that is named in both places is evaluated on purpose and left out, as are sets without an annotation file in
    their metadata and those that are not registered (the loader names them).

    Raises:
        ValueError: there are such patients; the first ones, the files and the remedy.
    """
    registered = set(DatasetCatalog.list())
    names = {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} & registered
    files = {name: MetadataCatalog.get(name).get("json_file") for name in names}
    for train in cfg.DATASETS.TRAIN:
        for test in cfg.DATASETS.TEST:
            if not files.get(train) or not files.get(test) or files[train] == files[test]:
                continue
            if are_surely_apart(train, test):
                continue
            leaks = check_splits([files[train], files[test]]).errors
            if leaks:
                first = "; ".join(leak.text for leak in leaks[:3])
                raise ValueError(
                    f"{train} and {test} share patients or images ({len(leaks)} in all): {first}. "
                    "DATASETS.ALLOW_SHARED_PATIENTS True trains all the same"
                )


def draw_seed() -> int:
    """A fresh seed, the same on every rank."""
    return comm.all_gather(secrets.randbelow(2**31))[0]


def use_available_device(cfg: CfgNode) -> None:
    """Fall back to the CPU where there is no GPU."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"


def use_float32_precision(cfg: CfgNode) -> None:
    """What the framework's set-up does for FLOAT32_PRECISION, for runs without it."""
    if cfg.FLOAT32_PRECISION and torch.cuda.is_available():
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"


def check_device(cfg: CfgNode) -> None:
    """Where there are GPUs, each of several processes has its own: they talk through NCCL, which knows no CPU tensors.

    Raises:
        ConfigError: MODEL.DEVICE is another one.
    """
    if comm.get_world_size() == 1 or not torch.cuda.is_available():
        return
    device = torch.device(cfg.MODEL.DEVICE)
    if device.type != "cuda" or device.index not in (None, comm.get_local_rank()):
        raise ConfigError(
            f"MODEL.DEVICE is {cfg.MODEL.DEVICE}, but this is a job of {comm.get_world_size()} processes with a GPU "
            "each: set it to cuda, or hide the GPUs from a job on the CPU (CUDA_VISIBLE_DEVICES= before the command)"
        )


def _recorded_seed(output_dir: str) -> int:
    config = Path(output_dir) / CONFIG_FILE
    if not config.is_file():
        return -1
    return int(read_config(config).get("SEED", -1))
