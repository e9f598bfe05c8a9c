"""Starting the processes of a job: spawned here, or by torchrun."""

import socket
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch
import torch.multiprocessing as mp

from mammo_d2.core.processes.threads import threads_for_processes
from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.process_group import DEFAULT_TIMEOUT, is_torchrun, run_in_group, run_under_torchrun


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """Run main_func(*args) in every process of the job: NCCL where there are GPUs, gloo on CPUs.

    The processes share the cores of the machine, unless OMP_NUM_THREADS is set.

    Under torchrun this process is one of the job already, and the numbers given here are not used.

    Args:
        main_func: a function that can be pickled.
        num_gpus_per_machine: processes to start on this machine.
        num_machines: machines in the job; on each of them this function is called.
        machine_rank: number of this machine, from 0.
        dist_url: where the processes meet, e.g. "tcp://10.0.0.1:29500"; "auto" takes a free port of this machine.
        args: arguments of main_func.
        timeout: how long a process waits for the others.

    Returns:
        What main_func returns, if it ran in this process; otherwise None.

    Raises:
        ValueError: more processes than GPUs, or no usable dist_url for several processes.
    """
    if is_torchrun():
        return run_under_torchrun(main_func, args, comm, comm.forget_process_groups, timeout)
    world_size = num_machines * num_gpus_per_machine
    if world_size <= 1:
        return main_func(*args)
    if torch.cuda.is_available() and num_gpus_per_machine > torch.cuda.device_count():
        raise ValueError(
            f"--num-gpus is {num_gpus_per_machine}, but this machine has {torch.cuda.device_count()}; hide them for a "
            "job on the CPU (CUDA_VISIBLE_DEVICES= before the command)"
        )
    if dist_url == "auto":
        if num_machines > 1:
            raise ValueError("--dist-url auto works on one machine only; give tcp://<address of machine 0>:<port>")
        dist_url = f"tcp://127.0.0.1:{_free_port()}"
    if dist_url is None:
        raise ValueError("several processes need --dist-url, e.g. tcp://127.0.0.1:29500, or auto on one machine")
    with threads_for_processes(num_gpus_per_machine):
        mp.start_processes(
            _spawned,
            args=(main_func, args, dist_url, world_size, machine_rank, num_gpus_per_machine, timeout),
            nprocs=num_gpus_per_machine,
            start_method="spawn",
        )
    return None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _spawned(
    local_rank: int,
    main_func: Callable[..., Any],
    args: tuple,
    dist_url: str,
    world_size: int,
    machine_rank: int,
    local_size: int,
    timeout: timedelta,
) -> None:
    run_in_group(
        main_func,
        args,
        comm,
        comm.forget_process_groups,
        init_method=dist_url,
        rank=machine_rank * local_size + local_rank,
        world_size=world_size,
        local_rank=local_rank,
        local_size=local_size,
        timeout=timeout,
    )
