"""One trial of a search: its training in a process group of its own, and its evaluations as they are logged."""

import contextlib
import fcntl
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mammo_d2.engine.run_files.run_folder import SCALARS_FILE
from mammo_d2.engine.run_files.run_results import read_scalars
from mammo_d2.experiments.processes import start_job
from mammo_d2.jobs.job import Stage

# Held by a trial's processes: as long as it is locked, one of them runs. Contains their process group.
LOCK_FILE = "job.lock"
# Seconds from asking processes to end until they are killed.
GRACE = 10.0


class SearchError(ValueError):
    """A search cannot go on, for a reason that the user can remove."""


def trial_folder(output: Path, number: int) -> Path:
    """Folder of a trial."""
    return output / f"trial{number:04d}"


@dataclass(frozen=True)
class LoggedEvaluation:
    """One evaluation of a trial.

    Attributes:
        step: its number, from 1; the same for the same moment of every trial.
        iteration: finished iterations of the stage's training.
        value: the metric, NaN where undefined.
        last_stage: whether it is of the stage whose model is the trial's result.
    """

    step: int
    iteration: int
    value: float
    last_stage: bool


def read_evaluations(folder: Path, stages: Sequence[Stage], metric: str) -> list[LoggedEvaluation]:
    """The evaluations that a trial has logged so far.

    Raises:
        SearchError: there are evaluations, but without the metric; the keys there are.
    """
    found = []
    before = 0
    task = metric.split("/")[0] + "/"
    for stage in stages:
        path = folder / stage.folder
        entries = [entry for entry in read_scalars(path) if any(key.startswith(task) for key in entry)]
        if entries and not any(metric in entry for entry in entries):
            keys = sorted({key for entry in entries for key in entry if key.startswith(task)})
            raise SearchError(f"the metric {metric!r} is not in {path / SCALARS_FILE}; there are {', '.join(keys)}")
        for number, entry in enumerate(entries, 1):
            value = entry.get(metric, math.nan)
            found.append(LoggedEvaluation(before + number, int(entry["iteration"]) + 1, value, stage is stages[-1]))
        before += stage.evaluations
    return found


class TrialJob:
    """A trial's training. It resumes an earlier one in the same folder, which is stopped if it still runs."""

    def __init__(self, folder: Path, config_file: str, overrides: Sequence[str], jobs: int):
        """Start it; arguments as for ``run_job``."""
        folder.mkdir(parents=True, exist_ok=True)
        end_leftover(folder)
        with open(folder / LOCK_FILE, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # The lock is inherited; the group is what a signal reaches: ranks and loaders too.
            options = {"start_new_session": True, "pass_fds": [lock.fileno()]}
            self.process: subprocess.Popen = start_job(folder, config_file, overrides, jobs, "--resume", **options)
            lock.write(str(self.process.pid))

    def poll(self) -> int | None:
        """Exit status, None while it runs."""
        return self.process.poll()

    def stop(self) -> None:
        """End it, with all its processes."""
        if self.process.poll() is None:
            _signal_group(self.process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
            _signal_group(self.process.pid, signal.SIGKILL)
            self.process.wait()


def end_leftover(folder: Path) -> None:
    """End a trial's processes that have outlived their search.

    Raises:
        SearchError: they do not end.
    """
    with open(folder / LOCK_FILE, "a+") as lock:
        if _locked(lock, 0.0):
            return
        lock.seek(0)
        group = lock.read()
        if group.isdigit():
            _signal_group(int(group), signal.SIGTERM)
            _locked(lock, GRACE)
            # Also those that had not inherited the lock.
            _signal_group(int(group), signal.SIGKILL)
        if not _locked(lock, GRACE):
            raise SearchError(f"{folder}: a process of this trial is still running (group {group or '?'}); end it")


def _locked(file, patience: float) -> bool:
    """Try to take a lock for some seconds."""
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)


def _signal_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


@contextlib.contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Be the only search in a folder.

    Raises:
        SearchError: there is another.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "search.lock", "w") as lock:
        if not _locked(lock, 0.0):
            raise SearchError(f"another search is running in {folder}; wait for it, or name another --output")
        yield
