"""Commands in processes of their own: started, watched, killed, and what they leave behind."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

_PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of all descendants whose parent ends, so that ``descendants`` finds them (Linux)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _state(pid: int) -> tuple[str, int] | None:
    """(state, parent) of a process; None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def descendants(pid: int) -> list[int]:
    """All living processes below one; those that only wait to be reaped do not live."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (state := _state(int(entry))) is not None and state[0] not in "ZX":
            children.setdefault(state[1], []).append(int(entry))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def kill_all(pids: Sequence[int]) -> None:
    """SIGKILL, whoever is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Forked:
    """A command in a fork of this process, which has imported everything already; the face of ``subprocess.Popen``.

    The fork does what a new program would see: files that are not inherited are closed.
    """

    def __init__(
        self,
        argv: Sequence[str],
        log: Path,
        *,
        cwd: Path | None = None,
        start_new_session: bool = True,
        pass_fds: Sequence[int] = (),
        env: dict[str, str] | None = None,
    ):
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid:
            return
        code = 71
        try:
            if start_new_session:
                os.setsid()
            if cwd is not None:
                os.chdir(cwd)
            os.environ.update(env or {})
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for number in (1, 2):
                os.dup2(output, number)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for name in os.listdir("/proc/self/fd"):
                if int(name) > 2 and int(name) not in pass_fds:
                    with contextlib.suppress(OSError):
                        os.close(int(name))
            code = _run_here(argv)
        except BaseException:
            with open(log, "a") as stream:
                traceback.print_exc(file=stream)
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        if self.returncode is None:
            self._wait(os.WNOHANG)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if end is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired("fork", timeout or 0)
            time.sleep(0.002)
        assert self.returncode is not None
        return self.returncode

    def _wait(self, options: int) -> None:
        pid, status = os.waitpid(self.pid, options)
        if pid:
            self.returncode = os.waitstatus_to_exitcode(status)


def _run_here(argv: Sequence[str]) -> int:
    """The command line in this process, a fresh fork."""
    from mammo_d2.cli.main import main
    from mammo_d2.cli.training import search
    from mammo_d2.experiments import processes as jobs
    from mammo_d2.experiments.search import search_loop, trial

    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb", 0, closefd=False), write_through=True)
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb", 0, closefd=False), write_through=True)
    # Nothing for worker processes to import again.
    sys.modules["__main__"] = types.ModuleType("__main__")
    jobs.start_job = trial.start_job = _start_job
    search.search = partial(search_loop.search, interval=0.05)
    try:
        main(argv)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)


def _start_job(folder: Path, config_file: str, overrides: Sequence[str], jobs: int, *flags: str, **options: Any):
    """In place of ``mammo_d2.experiments.processes.start_job``: the same training in a fork."""
    from mammo_d2.core.processes.parent_process import STARTER_VARIABLE
    from mammo_d2.engine.run_files.run_folder import LOG_FILE

    folder.mkdir(parents=True, exist_ok=True)
    argv = ["train", "--config-file", config_file, *flags, *overrides, "OUTPUT_DIR", str(folder)]
    options.setdefault("start_new_session", False)
    return Forked(argv, folder / LOG_FILE, env={STARTER_VARIABLE: str(os.getpid())}, **options)


def start(argv: Sequence[str], cwd: Path, log: Path, *, fork: bool) -> Forked | subprocess.Popen:
    """Start ``mammo-d2 ARGV`` in a folder, in a session of its own."""
    if fork:
        return Forked(argv, log, cwd=cwd)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(log, "ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "mammo_d2", *argv], cwd=cwd, env=environment, stdin=subprocess.DEVNULL,
            stdout=stream, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def reap() -> None:
    """Take the exit codes of adopted orphans; call it only when no started command is waited for."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def moments(seconds: float, interval: float) -> Iterator[float]:
    """Seconds since the call, at an interval, up to a number of seconds."""
    begin = time.monotonic()
    while (now := time.monotonic() - begin) < seconds:
        yield now
        time.sleep(interval)
