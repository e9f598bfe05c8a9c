"""How mutated files end: cases run in a child process, so that one that ends its process is counted, not fatal."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cv2
import torch

from mammo_d2.cli.arguments.command_line import KNOWN_ERRORS
from tests.fuzz.cases import read_case

#: Fine: read, and plausible. Clean: a known error that names the file. Vague: one that does not. Wrong: read without
#: an error, but not plausible. Crash: another exception, or the end of the process. Slow: over ``MOST_SECONDS``.
OUTCOMES = ("fine", "clean", "vague", "wrong", "crash", "slow")
GOOD = ("fine", "clean")
MOST_SECONDS = 10.0
_WAIT = 6  # times MOST_SECONDS, before the child is ended
_MEMORY = 16 << 30  # bytes of address space of the child


@dataclass(frozen=True)
class Ended:
    """How one case ended; ``detail`` is empty for those of ``GOOD``."""

    kind: str
    seed: int
    outcome: str
    detail: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a case's own judgement of its end is.

    "end": there is no such case, nor any after it; "ready": it only prepared others, and may take its time.
    """

    outcome: str
    detail: str = ""


Run = Callable[[str, int, Path], Verdict]


class _TooSlow(BaseException):
    """Not an ``Exception``, so that no reader catches it."""


def run_cases(cases: Sequence[tuple[str, int]], run: Run | None = None) -> Iterator[Ended]:
    """Run cases of (kind, seed) one after the other in a child, which is started again after one that ends it.

    Args:
        cases: of ``run``.
        run: runs one in a folder; by default ``read_case``. An error that it raises is judged here.
    """
    done = 0
    while done < len(cases):
        parent, child = multiprocessing.Pipe(duplex=False)
        # Forked: nothing is imported again. Libraries run in one thread here.
        process = multiprocessing.get_context("fork").Process(
            target=_work, args=(child, cases[done:], run or _read), daemon=True
        )
        process.start()
        child.close()
        try:
            alive = True
            while alive and done < len(cases):
                kind, seed = cases[done]
                # The child's own alarm waits for C code to return.
                if not parent.poll(_WAIT * MOST_SECONDS):
                    ended = Ended(kind, seed, "slow", f"no end after {_WAIT * MOST_SECONDS:g} s")
                    alive = False
                else:
                    try:
                        ended = parent.recv()
                    except EOFError:
                        process.join()
                        ended = Ended(kind, seed, "crash", f"the process ended ({process.exitcode})")
                        alive = False
                if ended.outcome == "end":
                    return
                done += 1
                yield ended
        finally:
            process.kill()
            process.join()
            parent.close()


def _work(pipe: Connection, cases: Sequence[tuple[str, int]], run: Run) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # C libraries print about damaged data
    faulthandler.disable()  # pytest's, which prints where a process ended
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGALRM, _too_slow)
    with tempfile.TemporaryDirectory() as folder:
        for kind, seed in cases:
            ended = _run(run, kind, seed, Path(folder))
            pipe.send(ended)
            if ended.outcome == "end":
                break
    pipe.close()


def _too_slow(*_: Any) -> None:
    raise _TooSlow


def _read(kind: str, seed: int, folder: Path) -> Verdict:
    wrong = read_case(kind, seed, folder)
    return Verdict("wrong", wrong) if wrong else Verdict("fine")


def _run(run: Run, kind: str, seed: int, folder: Path) -> Ended:
    start = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
        try:
            verdict = run(kind, seed, folder)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _TooSlow:
        return Ended(kind, seed, "slow", _place())
    except KNOWN_ERRORS as error:
        outcome, detail = _known(error)
    except Exception as error:
        outcome, detail = "crash", f"{type(error).__name__}: {str(error)[:200]} {_place()}"
    else:
        outcome, detail = verdict.outcome, verdict.detail
    if time.monotonic() - start > MOST_SECONDS and outcome != "ready":
        outcome, detail = "slow", detail or f"{time.monotonic() - start:.0f} s"
    return Ended(kind, seed, outcome, detail)


def _known(error: Exception) -> tuple[str, str]:
    """Outcome of an error that the commands show as one line: it is to name the file."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if "case." in text:
        return "clean", ""
    # A bare key, and errors that no reader has put into words.
    bare = type(error) is KeyError and " " not in text
    return "crash" if bare else "vague", f"{type(error).__name__}: {text[:200]} {_place()}"


def _place() -> str:
    """The last line of the package in the exception under way."""
    error = sys.exc_info()[1]
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "mammo_d2/" in f.filename] if error else []
    return f"({frames[-1].filename.rpartition('mammo_d2/')[2]}:{frames[-1].lineno})" if frames else ""
