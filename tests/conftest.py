"""Shared test settings: one thread, marker handling, the folder of real sample mammograms."""

import importlib.util
import logging
import os
import sys
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    has_detectron2 = importlib.util.find_spec("detectron2") is not None
    skips = {
        "detectron2": (has_detectron2, "detectron2 is not installed"),
        "gpu": (torch.cuda.is_available(), "no CUDA device"),
        "shared_data": (shared_data_root().is_dir(), "real sample mammograms not found (MAMMO_D2_SHARED)"),
    }
    for item in items:
        for marker, (available, reason) in skips.items():
            if item.get_closest_marker(marker) and not available:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def restored_loggers():
    """Restore handlers, levels and propagation of the loggers that setting up a job changes."""
    loggers = [logging.getLogger(name) for name in ("mammo_d2", "detectron2", "fvcore")]
    before = [(logger, logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    yield
    for logger, handlers, propagate, level in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)
    for module in ("mammo_d2.framework.embedded.utils.log", "detectron2.utils.logger"):
        if module in sys.modules:
            sys.modules[module].setup_logger.cache_clear()


@pytest.fixture(scope="module")
def hidden_gpus():
    """Hide GPUs from this process and its children, so that jobs of several processes run on the CPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "")
        patch.setattr(torch.cuda, "is_available", lambda: False)
        yield


def shared_data_root() -> Path:
    return Path(os.environ.get("MAMMO_D2_SHARED", ROOT.parent / "shared")) / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with real sample mammograms; use with the marker ``shared_data``."""
    return shared_data_root()


@pytest.fixture(scope="session")
def local_cluster():
    """Address of a Dask scheduler with two worker processes, for the extra "cluster".

    A task that has killed two workers is given up, and dead workers are replaced.
    """
    distributed = pytest.importorskip("distributed")
    import dask

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
    ):
        yield cluster.scheduler_address
