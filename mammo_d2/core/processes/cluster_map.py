"""A function applied to items on a Dask cluster, results in order: ``CrashSafeMap`` past one machine.

The scheduling is Dask's: a task whose worker dies is run again on another one, and workers may come and go. What is
added here: the state that tasks need is made once in each worker process, a bounded number of tasks is under way, and
an item of which several workers have died is handed to a function of the caller.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

Item = TypeVar("Item")
Result = TypeVar("Result")

# Seconds after which the number of workers is asked for again.
_RECOUNT = 10.0
# Seconds to wait for the scheduler.
_CONNECT = 60


class ClusterError(ValueError):
    """No cluster can be used; the message says why."""


@dataclass(frozen=True)
class ClusterMap(Generic[Item, Result]):
    """A function applied to items in the worker processes of a running Dask cluster.

    Workers need the same version of this package, and must see the same files under the same names: their working
    folder becomes that of this process.

    Attributes:
        address: of the scheduler ("tcp://host:8786"), or the path of its scheduler file.
        make: called once in each worker process with ``arguments``; gives the function of an item.
        crashed: the result of an item of which as many workers have died as the scheduler allows
            (``distributed.scheduler.allowed-failures``, 3 by default); called in this process.
        arguments: sent once to each worker process, not with every item.
        ahead: items under way for each thread of the cluster, before the first of them has been taken.
    """

    address: str
    make: Callable[..., Callable[[Item], Result]]
    crashed: Callable[[Item], Result]
    arguments: tuple = ()
    ahead: int = 8

    def __call__(self, items: Sequence[Item]) -> Generator[Result, None, None]:
        """Results in order; close the generator to end the work early.

        Where there are no workers (yet), it waits for them, as Dask does.

        Raises:
            ModuleNotFoundError: the package distributed is missing.
            ClusterError: the scheduler does not answer, or a worker does not see this process's folder.
        """
        import distributed

        with _client(distributed, self.address) as client:
            key = f"mammo_d2-{uuid4().hex}"
            plugin = _plugin(distributed, key, self.make, self.arguments)
            try:
                client.register_plugin(plugin, name=key)
                yield from self._results(distributed, client, key, items)
            finally:
                client.unregister_worker_plugin(key)

    def _results(self, distributed: Any, client: Any, key: str, items: Sequence[Item]) -> Generator[Result, None, None]:
        pending: deque[Any] = deque()
        submitted, room, counted = 0, 0, -_RECOUNT
        try:
            for item in items:
                if time.monotonic() - counted >= _RECOUNT:
                    room, counted = self.ahead * max(1, sum(client.nthreads().values())), time.monotonic()
                while submitted < len(items) and len(pending) < room:
                    task = client.submit(_apply, key, items[submitted], key=f"{key}-{submitted}", pure=False)
                    pending.append(task)
                    submitted += 1
                task = pending.popleft()
                try:
                    yield task.result()
                except distributed.KilledWorker:
                    yield self.crashed(item)
                task.release()
        finally:
            client.cancel(list(pending))


def _client(distributed: Any, address: str) -> Any:
    where = {"scheduler_file": address} if os.path.isfile(address) else {"address": address}
    try:
        return distributed.Client(**where, timeout=_CONNECT, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"there is no Dask scheduler at {address} ({' '.join(str(error).split())}); start one with dask scheduler, "
            "and name its address (tcp://host:8786) or its --scheduler-file"
        ) from error


# The function of each run, in a worker process.
_functions: dict[str, Callable[[Any], Any]] = {}


def _plugin(distributed: Any, key: str, make: Callable[..., Callable], arguments: tuple) -> Any:
    """Makes a run's function in each worker process, also in those that start later."""

    class MakeFunction(distributed.WorkerPlugin):
        def __init__(self) -> None:
            self.key, self.make, self.arguments, self.folder = key, make, arguments, os.getcwd()

        def setup(self, worker: Any) -> None:
            start_in_worker(self.key, self.make, self.arguments, self.folder)

        def teardown(self, worker: Any) -> None:
            stop_in_worker(self.key)

    return MakeFunction()


def start_in_worker(key: str, make: Callable[..., Callable], arguments: tuple, folder: str) -> None:
    """Make the function of a run in a worker process.

    Raises:
        ClusterError: the worker does not see the folder of the main process.
    """
    try:
        os.chdir(folder)
    except OSError as error:
        raise ClusterError(
            f"a worker of the cluster does not see the folder {folder} ({error.strerror}); run the command in a folder "
            "that all machines share"
        ) from error
    _functions[key] = make(*arguments)


def stop_in_worker(key: str) -> None:
    """Forget the function of a run."""
    _functions.pop(key, None)


def _apply(key: str, item: Any) -> Any:
    return _functions[key](item)
