"""Joining and leaving a job of several processes, for both engines."""

import gc
import os
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

import torch
import torch.distributed as dist

DEFAULT_TIMEOUT = timedelta(minutes=30)


def is_torchrun() -> bool:
    """Whether torchrun, or a launcher that sets the same variables, started this process as one of a job's."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def run_under_torchrun(
    main_func: Callable[..., Any],
    args: tuple,
    comm: ModuleType,
    forget_groups: Callable[[], None],
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """``run_in_group`` with the numbers of torchrun's environment variables."""
    return run_in_group(
        main_func,
        args,
        comm,
        forget_groups,
        init_method="env://",
        rank=int(os.environ["RANK"]),
        world_size=int(os.environ["WORLD_SIZE"]),
        local_rank=int(os.environ.get("LOCAL_RANK", 0)),
        local_size=int(os.environ.get("LOCAL_WORLD_SIZE", 1)),
        timeout=timeout,
    )


def run_in_group(
    main_func: Callable[..., Any],
    args: tuple,
    comm: ModuleType,
    forget_groups: Callable[[], None],
    *,
    init_method: str,
    rank: int,
    world_size: int,
    local_rank: int,
    local_size: int,
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Join the process group (NCCL where there are GPUs, gloo on CPUs), run main_func(*args), leave the group.

    Args:
        main_func: the job.
        args: its arguments.
        comm: the engine's communication module; it gets the group of the processes of this machine.
        forget_groups: drops every process group that the communication module keeps.
        init_method: where the processes meet, e.g. "tcp://10.0.0.1:29500".
        rank: rank of this process in the job.
        world_size: processes in the job.
        local_rank: rank on this machine, and index of the GPU.
        local_size: processes on this machine.
        timeout: how long to wait for the others.

    Returns:
        What main_func returns.
    """
    use_gpu = torch.cuda.is_available()
    if use_gpu:
        torch.cuda.set_device(local_rank)
    dist.init_process_group(
        "nccl" if use_gpu else "gloo", init_method=init_method, rank=rank, world_size=world_size, timeout=timeout
    )
    comm.create_local_process_group(local_size)
    comm.synchronize()  # wait until every process has joined
    result = main_func(*args)
    # gloo's threads end with the last reference to their group, and a thread that still runs when the interpreter
    # shuts down can abort the process. So drop every reference: those in a finished trainer's cycles first, the
    # module's last. Not after an exception: leaving may wait for ranks that wait for this one.
    gc.collect()
    dist.destroy_process_group()
    forget_groups()
    return result
