"""Preparing images in worker processes."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mammo_d2.core.processes.cluster_map import ClusterMap
from mammo_d2.core.processes.crash_safe import CrashSafeMap, WorkerStartError
from mammo_d2.core.processes.threads import use_one_thread
from mammo_d2.data.converters.converter import Converter, SourceImage
from mammo_d2.data.prepare.image import Issue, Outcome, prepare_image
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions

# Images handed to the processes before the first of them is done, for each process.
_AHEAD = 32


def run_images(
    converter: Converter, sources: list[SourceImage], options: PrepareOptions, out: Path, cluster: str = ""
) -> Generator[Outcome, None, None]:
    """Prepare images on a cluster, in worker processes, or in this one; close the generator to end the workers early.

    An image whose decoder ends its process (a crash of a C library, memory) costs this image only, with workers.

    Yields:
        Outcomes in the order of the sources.

    Raises:
        PrepareError: worker processes cannot start.
        ClusterError: there is no ``cluster`` (see ``ClusterMap``) of this address.
    """
    common = (options.image, out, options.force, options.check_hashes)
    # None: no bar where the output is not a terminal.
    hidden = None if options.progress else True
    bar = tqdm(total=len(sources), desc=f"prepare {converter.name}", unit="image", disable=hidden)
    with bar:
        if cluster:
            # An image that ends worker processes is tried once more in a process of this machine.
            alone: CrashSafeMap[SourceImage, Outcome] = CrashSafeMap(
                _work, _crashed, 1, _start_worker, (converter, *common)
            )
            on_cluster: ClusterMap[SourceImage, Outcome] = ClusterMap(
                cluster, prepare_function, lambda source: next(alone([source])), (converter, *common), ahead=_AHEAD
            )
            with closing(on_cluster(sources)) as running:
                for outcome in running:
                    yield outcome
                    bar.update()
            return
        if options.workers == 0:
            for source in sources:
                yield prepare_image(converter, source, *common)
                bar.update()
            return
        prepare_all: CrashSafeMap[SourceImage, Outcome] = CrashSafeMap(
            _work, _crashed, options.workers, _start_worker, (converter, *common), ahead=_AHEAD * options.workers
        )
        try:
            for outcome in prepare_all(sources):
                yield outcome
                bar.update()
        except WorkerStartError as error:
            raise PrepareError(
                "worker processes end before they read an image; use --workers 0 to see why (what was finished is "
                "reused)"
            ) from error


def _crashed(source: SourceImage) -> Outcome:
    problem = (
        f"{source.path}: the process that prepared this image ended without a message: its data is damaged, or memory "
        "is short; copy the file again, convert it (gdcmconv --raw) or leave it out"
    )
    return Outcome(source.key, issues=[Issue("error", source.key, str(source.path), problem)], split=source.split)


# Set in each worker process, so that the converter's tables are sent once and not with every image.
_worker_arguments: tuple[Converter, ImageOptions, Path, bool, bool] | None = None


def _start_worker(converter: Converter, options: ImageOptions, out: Path, force: bool, check_hashes: bool) -> None:
    global _worker_arguments
    _worker_arguments = (converter, options, out, force, check_hashes)


def _work(source: SourceImage) -> Outcome:
    assert _worker_arguments is not None
    converter, options, out, force, check_hashes = _worker_arguments
    return prepare_image(converter, source, options, out, force, check_hashes)


def prepare_function(converter: Converter, *common: Any) -> Callable[[SourceImage], Outcome]:
    """The function of an image in a worker process of a cluster."""
    use_one_thread()
    return partial(_prepare, converter, common)


def _prepare(converter: Converter, common: tuple, source: SourceImage) -> Outcome:
    return prepare_image(converter, source, *common)
