"""Ranks, and exchange of Python objects between processes: a thin layer over torch.distributed."""

from typing import Any

import numpy as np
import torch
import torch.distributed as dist

# Process groups. torch types new_group as ProcessGroup or int, hence Any here.
_local_group: Any = None
_gloo_group: Any = None


def _is_running() -> bool:
    return dist.is_available() and dist.is_initialized()


def get_world_size() -> int:
    """Number of processes of the job; 1 without a process group."""
    return dist.get_world_size() if _is_running() else 1


def get_rank() -> int:
    """Rank of this process in the job; 0 without a process group."""
    return dist.get_rank() if _is_running() else 0


def is_main_process() -> bool:
    """Whether this is rank 0, the one that writes files."""
    return get_rank() == 0


def create_local_process_group(num_workers_per_machine: int) -> None:
    """Make the group of the processes on this machine. Every process calls it once, after init_process_group.

    Args:
        num_workers_per_machine: processes on each machine; ranks are counted machine by machine.

    Raises:
        ValueError: the job's size is not a multiple of it.
    """
    global _local_group
    if get_world_size() % num_workers_per_machine != 0:
        raise ValueError(f"{get_world_size()} processes cannot be {num_workers_per_machine} on each machine")
    for first in range(0, get_world_size(), num_workers_per_machine):
        ranks = list(range(first, first + num_workers_per_machine))
        group = dist.new_group(ranks)  # collective: all processes make all groups
        if get_rank() in ranks:
            _local_group = group


def forget_process_groups() -> None:
    """Drop the groups that this module keeps, at the end of a job."""
    global _local_group, _gloo_group
    _local_group = _gloo_group = None


def get_local_process_group() -> Any:
    """The group of the processes on this machine.

    Raises:
        RuntimeError: the job was not started by ``launch`` nor by torchrun.
    """
    if _local_group is None:
        raise RuntimeError("no local process group: start the job with launch(), or call create_local_process_group()")
    return _local_group


def get_local_rank() -> int:
    """Rank of this process on its machine: the index of its GPU."""
    return dist.get_rank(get_local_process_group()) if _is_running() else 0


def synchronize() -> None:
    """Wait until every process is here."""
    if get_world_size() == 1:
        return
    if dist.get_backend() == dist.Backend.NCCL:
        dist.barrier(device_ids=[torch.cuda.current_device()])  # without it NCCL guesses the GPU from the rank
    else:
        dist.barrier()


def _object_group() -> Any:
    """Group for pickled objects: gloo also beside NCCL, so that they do not pass through GPU memory."""
    global _gloo_group
    if dist.get_backend() != dist.Backend.NCCL:
        return dist.group.WORLD
    if _gloo_group is None:
        _gloo_group = dist.new_group(backend="gloo")
    return _gloo_group


def all_gather(data: Any) -> list[Any]:
    """Collect one picklable object from every process, on every process.

    Returns:
        The objects in the order of the ranks.
    """
    if get_world_size() == 1:
        return [data]
    gathered: list[Any] = [None] * get_world_size()
    dist.all_gather_object(gathered, data, group=_object_group())
    return gathered


def gather(data: Any, dst: int = 0) -> list[Any]:
    """Collect one picklable object from every process on rank ``dst``.

    Returns:
        The objects in the order of the ranks on ``dst``, an empty list elsewhere.
    """
    if get_world_size() == 1:
        return [data]
    gathered: list[Any] | None = [None] * get_world_size() if get_rank() == dst else None
    dist.gather_object(data, gathered, dst=dst, group=_object_group())
    return gathered if gathered is not None else []


def shared_random_seed() -> int:
    """A seed drawn by rank 0's numpy generator and known to all. Every process must call it."""
    return all_gather(int(np.random.randint(2**31)))[0]  # noqa: NPY002 (the global generator is what SEED seeds)
