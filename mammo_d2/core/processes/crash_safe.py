"""Work in processes of its own: a crash of a C library ends one of these, costs one item, and names it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from mammo_d2.core.processes.parent_process import end_with_parent
from mammo_d2.core.processes.threads import use_one_thread

Item = TypeVar("Item")
Result = TypeVar("Result")


def _nothing() -> None:
    """The default start of a worker."""


class WorkerStartError(ValueError):
    """Worker processes end before they have begun."""


@dataclass(frozen=True)
class CrashSafeMap(Generic[Item, Result]):
    """A function applied to items in worker processes of one thread each, results in order.

    Attributes:
        work: the function, of a module.
        crashed: the result of an item whose process has ended.
        workers: number of processes, at least 1.
        start: called once in each process, with ``arguments``.
        arguments: sent once to each process, not with every item.
        ahead: items that are worked on before the first of them has been taken; 0: all.
        method: how processes start. "spawn": fresh interpreters, as a fork of a process whose libraries have started
            threads can hang.
    """

    work: Callable[[Item], Result]
    crashed: Callable[[Item], Result]
    workers: int
    start: Callable[..., None] = _nothing
    arguments: tuple = ()
    ahead: int = 0
    method: str = "spawn"

    def __call__(self, items: Sequence[Item]) -> Generator[Result, None, None]:
        """Results in order; close the generator to end the workers early.

        Where a process dies, the items it may have died of are tried alone.

        Raises:
            WorkerStartError: processes end before they have begun.
        """
        results: dict[int, Result] = {}
        start = 0
        while start < len(items):
            with self._pool(min(self.workers, len(items) - start)) as pool:
                tasks: dict[int, Future[Result]] = {}
                submitted = start
                try:
                    for n in range(start, len(items)):
                        last = len(items) if self.ahead == 0 else min(len(items), n + self.ahead)
                        for m in range(submitted, last):
                            if m not in results:
                                tasks[m] = pool.submit(self.work, items[m])
                        submitted = max(submitted, last)
                        # Not kept: results may be large.
                        yield results.pop(n) if n in results else tasks.pop(n).result()
                        start = n + 1
                except BrokenProcessPool:
                    results |= {n: task.result() for n, task in tasks.items() if n >= start and _succeeded(task)}
            # Items are handed out in order, with one more per process in the queue.
            unfinished = [n for n in range(start, len(items)) if n not in results]
            results |= self._alone({n: items[n] for n in unfinished[: 2 * self.workers + 1]})

    def _alone(self, suspects: dict[int, Item]) -> dict[int, Result]:
        """One item after the other in a single process."""
        results: dict[int, Result] = {}
        while len(results) < len(suspects):
            with self._pool(1) as pool:
                try:
                    pool.submit(_ready).result()
                except BrokenProcessPool as error:
                    raise WorkerStartError("worker processes end before they have begun") from error
                for n, item in suspects.items():
                    if n in results:
                        continue
                    try:
                        results[n] = pool.submit(self.work, item).result()
                    except BrokenProcessPool:
                        results[n] = self.crashed(item)
                        break
        return results

    @contextmanager
    def _pool(self, workers: int) -> Generator[ProcessPoolExecutor, None, None]:
        """Processes that are ended with the context."""
        context: Any = multiprocessing.get_context(self.method)
        pool = ProcessPoolExecutor(workers, context, _start_worker, (self.start, self.arguments))
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _succeeded(task: Future) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _start_worker(start: Callable[..., None], arguments: tuple) -> None:
    end_with_parent()
    use_one_thread()
    start(*arguments)


def _ready() -> bool:
    """Whether this process has started."""
    return True
