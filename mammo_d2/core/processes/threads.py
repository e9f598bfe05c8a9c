"""How many threads numerical libraries start, and how these wait: a default that is safe where cores are shared."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

THREADS, WAITING = "OMP_NUM_THREADS", "OMP_WAIT_POLICY"
# Set by people who have decided how threads wait.
_WAITING_BY_HAND = (WAITING, "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_CGROUP = Path("/sys/fs/cgroup")


def cores_of_this_process() -> int:
    """Cores that this process may run on: all, or those of its affinity mask."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota_of_this_process(root: Path = _CGROUP) -> float | None:
    """Cores' worth of time that the process's container may use (cgroup version 2 or 1); None without a limit."""
    try:
        quota, period = (root / "cpu.max").read_text().split()[:2]
    except (OSError, ValueError):
        try:
            quota = (root / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (root / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        share = float(quota) / float(period)
    except (ValueError, ZeroDivisionError):  # "max"
        return None
    return share if share > 0 else None


def usable_cores(root: Path = _CGROUP) -> int:
    """Threads that can run at once: cores of the process, or its quota rounded up where that is less."""
    quota = quota_of_this_process(root)
    cores = cores_of_this_process()
    return cores if quota is None else max(1, min(cores, math.ceil(quota)))


def threads_each(processes: int, root: Path = _CGROUP) -> int:
    """Threads of each of several processes that run side by side: their share of the cores, at least 1."""
    return max(1, usable_cores(root) // max(1, processes))


@contextmanager
def threads_for_processes(processes: int) -> Iterator[None]:
    """Processes started in this context share the cores, unless the user has set OMP_NUM_THREADS.

    A fresh process reads the variable when it imports torch: it cannot set it for itself.

    Args:
        processes: that will run side by side on this machine.
    """
    unset = THREADS not in os.environ
    if unset:
        os.environ[THREADS] = str(threads_each(processes))
    try:
        yield
    finally:
        if unset:
            del os.environ[THREADS]


def use_one_thread() -> None:
    """Limit this process, a worker, to one thread: the workers are the parallelism, their threads would only compete.

    Counts for what is imported later, too. torch is left alone where it has not been imported.
    """
    import cv2  # not every program that reads this module has images

    os.environ[THREADS] = "1"
    # 0, not 1: OpenCV would wait for the threads of its pool, which a forked process has not inherited, forever.
    cv2.setNumThreads(0)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def set_thread_defaults(environ: MutableMapping[str, str] = os.environ, root: Path = _CGROUP) -> None:
    """Set OpenMP's variables where the user has not; before torch is imported, which reads them once.

    * Threads that wait sleep, instead of spinning. A spinning thread burns the time of a core that the thread it waits
      for would need, where other programs run on the same cores.
    * As many threads as the container's quota has cores. OpenMP itself sees the machine's cores and the affinity mask.

    The number of threads does not follow the load of the machine: the last digits of a training depend on it, and a
    training outlives the load at its start.
    """
    if not any(name in environ for name in _WAITING_BY_HAND):
        environ[WAITING] = "PASSIVE"
    cores = usable_cores(root)
    if THREADS not in environ and cores < cores_of_this_process():
        environ[THREADS] = str(cores)
