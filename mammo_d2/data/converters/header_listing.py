"""Looking at the headers of many files, in several processes and with a progress bar, before any image is prepared."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from mammo_d2.core.processes.crash_safe import CrashSafeMap
from mammo_d2.data.reading.dicom.dicom_file import read_dicom_meta
from mammo_d2.data.reading.image_meta import ImageMeta, ImageReadError

Seen = TypeVar("Seen")

#: A header takes a millisecond, a process a second to start: fewer files are read in this process.
LEAST_FILES = 2000
# Files handed to the processes before the first of them has been taken, for each process.
_AHEAD = 64


@dataclass(frozen=True)
class HeaderListing:
    """How headers are read.

    Attributes:
        workers: processes; 0: this one, as for fewer files than ``LEAST_FILES``.
        progress: show a progress bar where the output is a terminal.
    """

    workers: int = 0
    progress: bool = False

    def look(
        self, function: Callable[[Path], Seen], paths: Sequence[Path]
    ) -> Iterator[tuple[Path, Seen | ImageReadError]]:
        """Apply a function of a module to each file.

        Args:
            function: what is seen in a file; it raises nothing.
            paths: files.

        Yields:
            Each file, in the given order, and what was seen, or an error if the process ended that read it.
        """
        results: Generator[Seen | ImageReadError, None, None]
        if self.workers == 0 or len(paths) < LEAST_FILES:
            results = (function(path) for path in paths)
        else:
            pool: CrashSafeMap[Path, Seen | ImageReadError] = CrashSafeMap(
                function, _crashed, self.workers, ahead=_AHEAD * self.workers
            )
            results = pool(paths)
        hidden = None if self.progress else True
        with closing(results):
            bar = tqdm(results, "headers", len(paths), unit="file", disable=hidden, leave=False)
            yield from zip(paths, bar, strict=True)


def read_header(path: Path) -> ImageMeta | ImageReadError | OSError:
    """The facts about a DICOM image from its header, or why it cannot be read."""
    try:
        return read_dicom_meta(path)
    except (ImageReadError, OSError) as error:
        return error


def header_problem(error: Exception) -> str:
    """What is wrong with a file, without its name."""
    return error.problem if isinstance(error, ImageReadError) else str(error)


def _crashed(path: Path) -> ImageReadError:
    return ImageReadError(path, "the process that read its header ended without a message", "leave it out")
