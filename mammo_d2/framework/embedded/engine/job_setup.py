"""Setting up a job: command line, logging, recorded configuration, seeds, writers."""

import argparse
import logging
import os
import sys

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mammo_d2.core.files import atomic_write
from mammo_d2.framework.embedded.config import CfgNode
from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.files import PathManager
from mammo_d2.framework.embedded.utils.log import collect_env_info, seed_all_rng, setup_logger
from mammo_d2.framework.embedded.utils.writers import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """The command line of a training script.

    Args:
        epilog: text below the help; default: examples.
    """
    script = os.path.basename(sys.argv[0])
    parser = argparse.ArgumentParser(
        epilog=epilog
        or f"""examples:
  train on 4 GPUs          {script} --config-file c.yaml --num-gpus 4
  change keys              {script} --config-file c.yaml SOLVER.BASE_LR 0.001 OUTPUT_DIR output/run2
  continue                 {script} --config-file c.yaml --resume
  evaluate                 {script} --config-file c.yaml --eval-only MODEL.WEIGHTS output/run2/model_final.pth
  2 machines, on each N    {script} --config-file c.yaml --num-machines 2 --machine-rank N --dist-url tcp://HOST:PORT
""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="YAML file")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint in OUTPUT_DIR")
    parser.add_argument("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS and stop")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes on this machine, one per GPU")
    parser.add_argument("--num-machines", type=int, default=1, help="machines in the job")
    parser.add_argument("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    # The same port at every start: a process left over from a former run then gives "address in use".
    port = 2**15 + 2**14 + hash(os.getuid() if hasattr(os, "getuid") else 1) % 2**14
    parser.add_argument(
        "--dist-url", default=f"tcp://127.0.0.1:{port}", help="where the processes meet; auto: a free port"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, default=None, help="config keys and values: KEY VALUE ...")
    return parser


def default_setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Output folder with config.yaml and log, report on the environment, seeds, numerical precision.

    SEED below 0 seeds every process from the system; otherwise rank r gets SEED + r.

    Args:
        cfg: the config.
        args: the command line; ``config_file`` and ``eval_only`` are looked at where they exist.
    """
    if comm.is_main_process() and cfg.OUTPUT_DIR:
        PathManager.mkdirs(cfg.OUTPUT_DIR)
    rank = comm.get_rank()
    setup_logger(cfg.OUTPUT_DIR or None, distributed_rank=rank, name="fvcore")
    logger = setup_logger(cfg.OUTPUT_DIR or None, distributed_rank=rank)
    logger.info("Process %d of %d", rank, comm.get_world_size())
    logger.info("Environment:\n%s", collect_env_info())
    logger.info("Command line: %s", args)
    config_file = getattr(args, "config_file", "")
    if config_file:
        with PathManager.open(config_file, "r") as file:
            logger.info("Config file %s:\n%s", config_file, file.read())
    if comm.is_main_process() and cfg.OUTPUT_DIR:
        logger.info("Whole config:\n%s", cfg.dump())
        path = os.path.join(cfg.OUTPUT_DIR, "config.yaml")
        with atomic_write(path, "w") as file:
            file.write(cfg.dump())
        logger.info("The whole config is in %s", path)

    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION and torch.cuda.is_available():
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"
        logger.info("float32 precision: %s", cfg.FLOAT32_PRECISION)


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Console, metrics.json and TensorBoard.

    Args:
        output_dir: folder of the files.
        max_iter: iterations of the run, for the remaining time on the console.
    """
    PathManager.mkdirs(output_dir)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json")),
        TensorboardXWriter(output_dir),
    ]


def create_ddp_model(model: nn.Module, **kwargs: object) -> nn.Module:
    """The model wrapped for distributed training, or as it is in a job of one process.

    Args:
        model: the model, on its device.
        kwargs: further arguments of DistributedDataParallel.
    """
    if comm.get_world_size() == 1:
        return model
    if next(model.parameters()).is_cuda:
        kwargs.setdefault("device_ids", [comm.get_local_rank()])
    return DistributedDataParallel(model, **kwargs)  # type: ignore[arg-type]


def is_logging_configured(name: str = "mammo_d2") -> bool:
    """Whether the logger writes messages at INFO."""
    return logging.getLogger(name).isEnabledFor(logging.INFO)
