"""Every command with every kind of mistake in every file that it reads: run all and print how they ended.

The command runs as a user would run it. It must end without an error, or with exit code 2 and one line that names the
file; what it made of a bad value is compared with its result for the valid file. ``tests/fuzz/outcomes.py`` says how
the ends are called; here "wrong" is a changed number without a word.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import random
import shutil
import signal
import time
import warnings
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from mammo_d2.cli.arguments.command_line import run_tool
from tests.fuzz.mistakes import Mistake
from tests.fuzz.outcomes import GOOD, OUTCOMES, Verdict, run_cases
from tests.fuzz.prepare_targets import targets as prepare_targets
from tests.fuzz.public_set_targets import targets as public_set_targets
from tests.fuzz.run_targets import targets as run_targets
from tests.fuzz.targets import Target

LONGEST = 1500  # characters of an error
READY = -1
MOST = 100_000  # more mistakes than any target has


@cache
def all_targets() -> dict[str, Target]:
    """By name."""
    return {target.name: target for target in (*prepare_targets(), *public_set_targets(), *run_targets())}


# The valid files of a target, by folder and name: where they lie, its mistakes, its result.
_made: dict[tuple[Path, str], tuple[Path, list[Mistake], Any]] = {}


def _make(name: str, folder: Path) -> tuple[Path, list[Mistake], Any]:
    if (folder, name) not in _made:
        target = all_targets()[name]
        place = folder / str(len(_made))
        place.mkdir()
        target.make(place)
        code, text = _run(target, place)
        if code != 0:
            raise RuntimeError(f"{name}: the valid files end with {code}: {text}")
        _made[folder, name] = place, list(target.mistakes(place)), target.result(place)
    return _made[folder, name]


def _run(target: Target, folder: Path) -> tuple[Any, str]:
    """Exit code and what was printed as errors."""
    errors = io.StringIO()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(errors):
        warnings.simplefilter("ignore")
        try:
            run_tool(target.run, target.arguments(folder))
        except SystemExit as stop:
            return stop.code, errors.getvalue()


def run_mistake(name: str, number: int, folder: Path) -> Verdict:
    """Make one mistake, run the command, put the file right again; and how the command ended.

    The number READY only writes the valid files.
    """
    if number == READY:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _make(name, folder)
        return Verdict("ready")
    target = all_targets()[name]
    place, mistakes, valid = _make(name, folder)
    if number >= len(mistakes):
        return Verdict("end")
    mistake = mistakes[number]
    path = place / target.file
    data = path.read_bytes()
    path.unlink()
    try:
        if mistake.content == "folder":
            path.mkdir()
        elif mistake.content is not None:
            path.write_bytes(mistake.content() if callable(mistake.content) else bytes(mistake.content))
        code, text = _run(target, place)
        outcome, detail = _judge(target, mistake, code, text, place, valid)
    finally:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Verdict(outcome, detail and f"{mistake.kind}, {mistake.where}: {detail}")


def run_sampled(name: str, number: int, folder: Path) -> Verdict:
    """A mistake drawn by a seed."""
    if number == READY:
        return run_mistake(name, READY, folder)
    return run_mistake(name, random.Random(f"{name} {number}").randrange(len(_make(name, folder)[1])), folder)


def _judge(target: Target, mistake: Mistake, code: Any, text: str, folder: Path, valid: Any) -> tuple[str, str]:
    if code not in (0, 1, 2) or "Traceback" in text:
        return "crash", f"exit code {code}: {' '.join(text.split())[-400:]}"
    if code == 1:  # a check that failed, and says so on the console
        return "clean", ""
    if code == 2:
        name = target.file.rpartition("/")[2]
        first, *more = text.splitlines()
        # Several errors of one file are a list.
        one = not more or (first.endswith(" errors") and all(name in line for line in more[:-1]))
        named = name in text or any(word in text for word in target.named)
        if not (one and named and len(text) < LONGEST):
            return "vague", f"{1 + len(more)} lines: {text[:400]}"
        return "clean", ""
    wrong = target.plausible(target.result(folder), valid, mistake)
    return ("wrong", wrong) if wrong else ("fine", "")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.commands", description=__doc__)
    parser.add_argument("--targets", nargs="+", default=[""], help="parts of their names; default: all")
    parser.add_argument("--sample", type=int, default=0, metavar="N", help="only N mistakes of each; default: all")
    parser.add_argument("--list", action="store_true", help="print every mistake that was accepted, too")
    args = parser.parse_args()
    names = [name for name in all_targets() if any(word in name for word in args.targets)]
    run = run_sampled if args.sample else run_mistake
    counts: Counter[tuple[str, str]] = Counter()
    for name in names:
        start = time.monotonic()
        for ended in run_cases([(name, number) for number in range(READY, args.sample or MOST)], run):
            if ended.outcome == "ready":
                continue
            counts[name, ended.outcome] += 1
            if ended.outcome not in GOOD or (args.list and ended.outcome == "fine"):
                print(f"{name} {ended.seed}: {ended.outcome}: {' '.join(ended.detail.split())[:700]}", flush=True)
        print(f"# {name}: {time.monotonic() - start:.0f} s", flush=True)
    width = max(map(len, names)) + 2
    print(f"\n{'':{width}}" + "".join(f"{name:>8}" for name in (*OUTCOMES, "all")))
    for name in (*names, "all"):
        numbers = [sum(n for (of, end), n in counts.items() if end == o and name in (of, "all")) for o in OUTCOMES]
        print(f"{name:{width}}" + "".join(f"{number:8}" for number in (*numbers, sum(numbers))))
    return int(any(n for (_, end), n in counts.items() if end not in GOOD))


if __name__ == "__main__":
    raise SystemExit(main())
