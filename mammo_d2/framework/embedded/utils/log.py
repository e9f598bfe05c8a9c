"""Logging to console and file, the report on the environment, and the seeds."""

import atexit
import functools
import logging
import os
import platform
import random
import sys
from importlib import metadata
from typing import IO

import numpy as np
import torch
from tabulate import tabulate
from termcolor import colored

from mammo_d2.framework.embedded.utils.files import PathManager

_PLAIN = logging.Formatter("[%(asctime)s] %(name)s %(levelname)s: %(message)s", datefmt="%m/%d %H:%M:%S")
_LEVEL_COLORS = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class _ColorFormatter(logging.Formatter):
    """Green time and name, and the level's name in colour where it is a warning or worse."""

    def __init__(self, root_name: str, abbrev_name: str):
        super().__init__("%(message)s", datefmt="%m/%d %H:%M:%S")
        self._root_name = root_name
        self._abbrev_name = abbrev_name

    def formatMessage(self, record: logging.LogRecord) -> str:
        name = record.name
        if name == self._root_name or name.startswith(self._root_name + "."):
            name = (self._abbrev_name + name[len(self._root_name) :]).lstrip(".")
        head = colored(f"[{self.formatTime(record, self.datefmt)} {name}]: ", "green")
        color = _LEVEL_COLORS.get(record.levelno)
        level = colored(record.levelname, color) + " " if color else ""
        return head + level + record.getMessage()


@functools.cache
def _log_stream(path: str) -> IO:
    """One open stream per log file, so that several loggers can share the file."""
    PathManager.mkdirs(os.path.dirname(path) or ".")
    stream = PathManager.open(path, "a")
    atexit.register(stream.close)
    return stream


@functools.cache  # a second call with the same arguments must not add a second handler
def setup_logger(
    output: str | None = None,
    distributed_rank: int = 0,
    *,
    color: bool = True,
    name: str = "mammo_d2",
    abbrev_name: str | None = None,
) -> logging.Logger:
    """Let a logger write to the console (rank 0 only) and to a file.

    Args:
        output: a folder (the file is then log.txt in it), a file ending in .txt or .log, or None for no file. Ranks
            above 0 write to their own file, with ".rankN" appended.
        distributed_rank: rank of this process.
        color: coloured console output.
        name: the logger's name.
        abbrev_name: what to print instead of ``name``.

    Returns:
        The logger.
    """
    logger = logging.getLogger(name)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    has_console = any(getattr(handler, "stream", None) is sys.stdout for handler in logger.handlers)
    if distributed_rank == 0 and not has_console:
        console = logging.StreamHandler(sys.stdout)
        console.setFormatter(_ColorFormatter(name, name if abbrev_name is None else abbrev_name) if color else _PLAIN)
        logger.addHandler(console)
    if output is not None:
        path = output if output.endswith((".txt", ".log")) else os.path.join(output, "log.txt")
        if distributed_rank > 0:
            path += f".rank{distributed_rank}"
        file_handler = logging.StreamHandler(_log_stream(path))
        file_handler.setFormatter(_PLAIN)
        logger.addHandler(file_handler)
    return logger


def collect_env_info() -> str:
    """Versions of Python and of the libraries, GPUs, and environment variables that matter, as a table."""
    rows: list[tuple[str, object]] = [
        ("platform", platform.platform()),
        ("Python", sys.version.replace("\n", " ")),
        ("engine", "embedded"),
        ("torch", f"{torch.__version__} (CUDA {torch.version.cuda}, {torch.get_num_threads()} threads)"),
    ]
    for package in ("torchvision", "numpy", "fvcore", "iopath", "pycocotools", "pydicom", "opencv-python-headless"):
        try:
            rows.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            rows.append((package, "not installed"))
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            capability = ".".join(map(str, torch.cuda.get_device_capability(index)))
            rows.append((f"GPU {index}", f"{torch.cuda.get_device_name(index)} (capability {capability})"))
    else:
        rows.append(("GPU", "none"))
    for variable in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MAMMO_D2_ENGINE", "MAMMO_D2_DATASETS"):
        if variable in os.environ:
            rows.append((variable, os.environ[variable]))
    return tabulate(rows)


def seed_all_rng(seed: int | None = None) -> None:
    """Seed torch (all devices), numpy and random.

    Args:
        seed: None draws one from the system, and logs it.
    """
    if seed is None:
        seed = int.from_bytes(os.urandom(4), "little")
        logging.getLogger(__name__).info("random seed: %d", seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 (augmentations of other packages use the global generator)
    torch.manual_seed(seed)
    os.environ["PYTHONHASHSEED"] = str(seed)  # for processes started from here
