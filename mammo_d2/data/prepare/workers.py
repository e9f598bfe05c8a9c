"""Preparing images in worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path

import cv2
from tqdm import tqdm

from mammo_d2.core.parent_process import end_with_parent
from mammo_d2.data.converters.converter import Converter, SourceImage
from mammo_d2.data.prepare.image import Issue, Outcome, prepare_image
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions


def run_images(
    converter: Converter, sources: list[SourceImage], options: PrepareOptions, out: Path
) -> Generator[Outcome, None, None]:
    """Prepare images in one process or several; close the generator to end the workers early.

    An image whose decoder ends its process (a crash of a C library, memory) costs this image only, with several
    processes.

    Yields:
        Outcomes in the order of the sources.

    Raises:
        PrepareError: worker processes cannot start.
    """
    common = (options.image, out, options.force)
    # None: no bar where the output is not a terminal.
    hidden = None if options.progress else True
    bar = tqdm(total=len(sources), desc=f"prepare {converter.name}", unit="image", disable=hidden)
    with bar:
        if options.workers == 1:
            for source in sources:
                yield prepare_image(converter, source, *common)
                bar.update()
            return
        for outcome in _run_in_processes(sources, options.workers, (converter, *common)):
            yield outcome
            bar.update()


def _run_in_processes(
    sources: list[SourceImage], workers: int, arguments: tuple[Converter, ImageOptions, Path, bool]
) -> Generator[Outcome, None, None]:
    """Outcomes in order; where a process dies, the images it may have died of are tried alone."""
    outcomes: dict[int, Outcome] = {}
    start = 0
    while start < len(sources):
        with _worker_pool(min(workers, len(sources) - start), arguments) as pool:
            tasks: dict[int, Future[Outcome]] = {}
            try:
                for n in range(start, len(sources)):
                    if n not in outcomes:
                        tasks[n] = pool.submit(_work, sources[n])
                for n in range(start, len(sources)):
                    yield outcomes.pop(n) if n in outcomes else tasks[n].result()
                    start = n + 1
            except BrokenProcessPool:
                outcomes |= {n: task.result() for n, task in tasks.items() if n >= start and _succeeded(task)}
        # Images are handed out in order, with one more per process in the queue.
        unfinished = [n for n in range(start, len(sources)) if n not in outcomes]
        outcomes |= _run_alone({n: sources[n] for n in unfinished[: 2 * workers + 1]}, arguments)


def _run_alone(
    suspects: dict[int, SourceImage], arguments: tuple[Converter, ImageOptions, Path, bool]
) -> dict[int, Outcome]:
    """One image after the other in a single process; one that ends the process is an error of this image."""
    outcomes: dict[int, Outcome] = {}
    while len(outcomes) < len(suspects):
        with _worker_pool(1, arguments) as pool:
            try:
                pool.submit(_ready).result()
            except BrokenProcessPool as error:
                raise PrepareError(
                    "worker processes end before they read an image; use --workers 1 to see why (what was finished is "
                    "reused)"
                ) from error
            for n, source in suspects.items():
                if n in outcomes:
                    continue
                try:
                    outcomes[n] = pool.submit(_work, source).result()
                except BrokenProcessPool:
                    problem = (
                        f"{source.path}: the process that prepared this image ended without a message: its data is "
                        "damaged, or memory is short; copy the file again, convert it (gdcmconv --raw) or leave "
                        "it out"
                    )
                    outcomes[n] = Outcome(source.key, issues=[Issue("error", source.key, str(source.path), problem)])
                    break
    return outcomes


@contextmanager
def _worker_pool(
    workers: int, arguments: tuple[Converter, ImageOptions, Path, bool]
) -> Generator[ProcessPoolExecutor, None, None]:
    """Processes that prepare images, ended with the context."""
    # Fresh interpreters: a fork of a process whose libraries have started threads can hang.
    pool = ProcessPoolExecutor(
        workers, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=arguments
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _succeeded(task: Future[Outcome]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


# Set in each worker process, so that the converter's tables are sent once and not with every image.
_worker_arguments: tuple[Converter, ImageOptions, Path, bool] | None = None


def _start_worker(converter: Converter, options: ImageOptions, out: Path, force: bool) -> None:
    global _worker_arguments
    end_with_parent()
    _worker_arguments = (converter, options, out, force)
    cv2.setNumThreads(1)


def _ready() -> bool:
    """Whether this process has started."""
    return _worker_arguments is not None


def _work(source: SourceImage) -> Outcome:
    assert _worker_arguments is not None
    converter, options, out, force = _worker_arguments
    return prepare_image(converter, source, options, out, force)
