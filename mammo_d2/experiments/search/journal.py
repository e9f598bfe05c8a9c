"""The file of an Optuna study: repaired after a kill, and written so that what belongs together is there together."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from mammo_d2.experiments.search.trial import SearchError

# How Optuna begins each line.
_LINE_START = b'{"op_code":'


class _NoLock(JournalFileOpenLock):
    """``alone_in`` keeps others away; Optuna's own locks remain after a search is killed."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class _Journal(JournalFileBackend):
    """A journal whose entries can be kept back, then written in one go."""

    def __init__(self, path: Path):
        super().__init__(str(path), lock_obj=_NoLock(str(path)))
        self._path = path
        # Entries kept back, and the number of those in the file.
        self._held: list[dict[str, Any]] | None = None
        self._written = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Write what is logged inside at the end, in one go; after an exception, too."""
        self._written = self._path.read_bytes().count(b"\n")
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            if held:
                self.append_logs(held)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._held is None:
            super().append_logs(logs)
        else:
            self._held += logs

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:  # type: ignore[override]
        yield from super().read_logs(log_number_from)
        if self._held is not None:
            yield from self._held[max(0, log_number_from - self._written) :]


def open_storage(path: Path) -> JournalStorage:
    """The storage of a study in a file, which is made if it is not there.

    A last line that a kill left incomplete is removed.

    Raises:
        SearchError: the file is not a journal, or damaged; it is left as it is.
    """
    if path.is_file():
        _repair(path)
    return JournalStorage(_Journal(path))


@contextmanager
def together(study: optuna.Study) -> Iterator[None]:
    """Log what is done to a study inside in one go: a search that is killed leaves all of it or nothing.

    Otherwise a resumed search could not repeat it: a sampler draws other values for the second parameter where the
    first one is known already, and a pruner that has noted a trial's evaluation decides otherwise the next time.

    Args:
        study: of ``open_storage``.
    """
    with study._storage._backend.together():  # type: ignore[attr-defined]
        yield


def _repair(path: Path) -> None:
    """Remove an incomplete last line, or end a complete one."""
    content = path.read_bytes()
    *lines, last = content.split(b"\n")
    for number, line in enumerate(lines, 1):
        if not _is_entry(line):
            raise _damaged(path, number)
    if not last:
        return
    if _is_entry(last):
        with open(path, "ab") as file:
            file.write(b"\n")
    elif last.startswith(_LINE_START) or _LINE_START.startswith(last):
        with open(path, "rb+") as file:
            file.truncate(len(content) - len(last))
    else:
        raise _damaged(path, len(lines) + 1)


def _is_entry(line: bytes) -> bool:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return False
    return isinstance(entry, dict) and "op_code" in entry


def _damaged(path: Path, number: int) -> SearchError:
    return SearchError(
        f"{path}, line {number}: damaged, or not the journal of a search; restore it from a copy, or name another "
        "--output"
    )
