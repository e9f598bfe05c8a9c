"""Two names that are an installed detectron2's with something added. Nothing of detectron2 itself is changed.

``SafeCheckpointer`` is a subclass of its DetectionCheckpointer; ``launch`` first looks whether torchrun started the
process.
"""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import launch as _launch
from detectron2.utils import comm

from mammo_d2.core.processes.threads import threads_for_processes
from mammo_d2.framework.process_group import DEFAULT_TIMEOUT, is_torchrun, run_under_torchrun
from mammo_d2.framework.weights.checkpoint_io import SafeCheckpointing


class SafeCheckpointer(SafeCheckpointing, DetectionCheckpointer):
    """detectron2's checkpointer with this package's file handling."""


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """detectron2's launch; under torchrun, main_func(*args) in this process as one of the job's.

    Processes started here share the cores of the machine, unless OMP_NUM_THREADS is set.
    """
    if is_torchrun():
        return run_under_torchrun(main_func, args, comm, _forget_process_groups, timeout)
    together = threads_for_processes(num_gpus_per_machine) if num_gpus_per_machine > 1 else nullcontext()
    with together:
        return _launch(main_func, num_gpus_per_machine, num_machines, machine_rank, dist_url, args, timeout)


def _forget_process_groups() -> None:
    # detectron2 keeps its groups for as long as the process lives and has no public way to drop them.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()
