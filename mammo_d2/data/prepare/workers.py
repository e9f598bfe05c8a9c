"""Preparing images in worker processes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Generator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
from tqdm import tqdm

from mammo_d2.data.converters.converter import Converter, SourceImage
from mammo_d2.data.prepare.image import Outcome, prepare_image
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions


def run_images(
    converter: Converter, sources: list[SourceImage], options: PrepareOptions, out: Path
) -> Generator[Outcome, None, None]:
    """Prepare images in one process or several; close the generator to end the workers early.

    Yields:
        Outcomes in the order of the sources.

    Raises:
        PrepareError: a worker process ended unexpectedly.
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
        # Fresh interpreters: a fork of a process whose libraries have started threads can hang.
        pool = ProcessPoolExecutor(
            min(options.workers, len(sources)),
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_start_worker,
            initargs=(converter, *common),
        )
        try:
            for outcome in pool.map(_work, sources, chunksize=1):
                yield outcome
                bar.update()
        except BrokenProcessPool as error:
            raise PrepareError(
                "a worker process ended unexpectedly, most likely for lack of memory; use fewer workers (what was "
                "finished is reused)"
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


# Set in each worker process, so that the converter's tables are sent once and not with every image.
_worker_arguments: tuple[Converter, ImageOptions, Path, bool] | None = None


def _start_worker(converter: Converter, options: ImageOptions, out: Path, force: bool) -> None:
    global _worker_arguments
    _worker_arguments = (converter, options, out, force)
    cv2.setNumThreads(1)


def _work(source: SourceImage) -> Outcome:
    assert _worker_arguments is not None
    converter, options, out, force = _worker_arguments
    return prepare_image(converter, source, options, out, force)
