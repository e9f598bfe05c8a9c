"""Who am I among the processes, and how do I hand Python objects to the others: thin cover of torch.distributed."""

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
        RuntimeError: the job was not started by `launch` nor by torchrun.
    """
    if _local_group is None:
        raise RuntimeError("no local process group: start the job with launch(), or call create_local_process_group()")
    return _local_group


def get_local_rank() -> int:
    """Rank of this process on its machine: the index of its GPU."""
    return dist.get_rank(get_local_process_group()) if _is_running() else 0


def get_local_size() -> int:
    """Number of processes on this machine."""
    return dist.get_world_size(get_local_process_group()) if _is_running() else 1


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


def _group_size(group: Any) -> int:
    return 1 if get_world_size() == 1 else dist.get_world_size(group)


def all_gather(data: Any, group: Any = None) -> list[Any]:
    """Collect one picklable object from every process, on every process.

    Returns:
        The objects in the order of the ranks.
    """
    if _group_size(group) == 1:
        return [data]
    group = group or _object_group()
    gathered: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(gathered, data, group=group)
    return gathered


def gather(data: Any, dst: int = 0, group: Any = None) -> list[Any]:
    """Collect one picklable object from every process on rank `dst`.

    Returns:
        The objects in the order of the ranks on `dst`, an empty list elsewhere.
    """
    if _group_size(group) == 1:
        return [data]
    group = group or _object_group()
    receives = dist.get_rank(group) == dst
    gathered: list[Any] | None = [None] * dist.get_world_size(group) if receives else None
    dist.gather_object(data, gathered, dst=dst, group=group)
    return gathered if gathered is not None else []


def shared_random_seed() -> int:
    """A seed drawn by rank 0's numpy generator and known to all. Every process must call it."""
    return all_gather(int(np.random.randint(2**31)))[0]  # noqa: NPY002 (the global generator is what SEED seeds)


def reduce_dict(input_dict: dict[str, torch.Tensor], average: bool = True) -> dict[str, torch.Tensor]:
    """Sum or average scalar tensors over the processes.

    Args:
        input_dict: same keys on every process; scalar tensors of one dtype on the backend's device.
        average: divide by the number of processes.

    Returns:
        The result on rank 0; on other ranks the values are unspecified.
    """
    if get_world_size() == 1:
        return input_dict
    names = sorted(input_dict)
    with torch.no_grad():
        values = torch.stack([input_dict[name] for name in names])
        dist.reduce(values, dst=0)
        if average and is_main_process():
            values /= get_world_size()
    return dict(zip(names, values, strict=True))
