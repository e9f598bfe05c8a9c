"""Rounds of a command: started, killed, started again and again until it comes to its end; then compared."""

from __future__ import annotations

import fnmatch
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.kills.commands import OUT, Command, remove_unsettled
from tests.kills.comparison import differences, files_of, is_compared, is_temporary, unreadable
from tests.kills.processes import adopt_orphans, descendants, kill_all, moments, reap, start

#: Seconds that processes of a killed run may live on.
MOST_SECONDS = 10.0
#: Seconds after which an undisturbed run is taken to hang.
MOST_SECONDS_OF_A_RUN = 900.0
#: Who gets the signal: the main process, its process group, or every process that descends from it.
TARGETS = ("process", "group", "all")


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        start: number of the start in its round, from 1.
        seconds: after the start.
        target: see ``TARGETS``.
        aim: "time", or the files whose changes were counted until it came, e.g. "images/.*.png.tmp 3".
        phase: the file that the run had written last, logs aside; "start" before the first one.
        lived_on: seconds until no process of the run was left.
    """

    start: int
    seconds: float
    target: str
    aim: str
    phase: str
    lived_on: float


@dataclass
class Round:
    """A round: its kills, and what was wrong, in words; nothing where the result is the undisturbed one."""

    kills: list[Kill] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    seconds: float = 0.0


class Killer:
    """Kills a command in a working folder, at moments that follow from a seed.

    Half of the kills come at a time drawn from the whole run, half when a file of the result is being written: when so
    many files of one kind, or the hidden files that are renamed to them, have appeared or changed in a folder.
    """

    def __init__(self, command: Command, work: Path, seed: int, fork: bool):
        """
        Args:
            command: the command.
            work: folder with ``data``; the runs get folders in it.
            seed: of the moments.
            fork: run the command in forks of this process.
        """
        adopt_orphans()
        self.command, self.work, self.fork = command, work, fork
        self._random = random.Random(f"{command.name} {seed}")
        self._aims: list[_Aim] = []
        self.whole_seconds = 0.0
        self.whole = self._undisturbed("whole")

    def rounds(self, kills: int, most_per_round: int) -> Iterator[Round]:
        """Rounds until there were so many kills.

        Args:
            kills: number of all.
            most_per_round: then the run is left alone.
        """
        number = 0
        while kills > 0:
            found = self._round(self.work / f"killed{number}", min(kills, most_per_round))
            kills -= len(found.kills)
            number += 1
            yield found

    def _undisturbed(self, name: str, given: Path | None = None) -> Path:
        """The output folder of a run that nobody kills; ``given``: a killed run's, see ``Command.same_as``."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        (folder / OUT).mkdir(parents=True)
        for file in self.command.same_as if given is not None else ():
            assert given is not None
            shutil.copy2(given / file, folder / OUT / file)
        begin = time.monotonic()
        process = start(self.command.first, folder, folder / "console.txt", fork=self.fork)
        code = process.wait(MOST_SECONDS_OF_A_RUN)
        if code != self.command.exit_code:
            raise RuntimeError(f"the undisturbed run ended with {code}: {(folder / 'console.txt').read_text()[-3000:]}")
        if given is None:
            self.whole_seconds = time.monotonic() - begin
            self._aims = _aims(files_of(folder / OUT))
        if problems := list(unreadable(folder / OUT)):
            raise RuntimeError(f"the undisturbed run has files that its check does not understand: {problems}")
        return folder / OUT

    def _round(self, folder: Path, most: int) -> Round:
        begin = time.monotonic()
        found = Round()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        code: int | None = None
        starts = 0
        while code is None:
            starts += 1
            argv = self.command.again if starts > 1 else self.command.first
            code = self._start(argv, folder, starts, found, len(found.kills) < most)
        if code != self.command.exit_code:
            text = (folder / "console.txt").read_text()[-2000:]
            found.problems.append(f"start {starts} ended with exit code {code}: {text}")
        else:
            found.problems += self._compared(folder / OUT)
        found.seconds = time.monotonic() - begin
        return found

    def _start(self, argv: Sequence[str], folder: Path, number: int, found: Round, kill: bool) -> int | None:
        """Start the command; its exit code, or None where it was killed."""
        out = folder / OUT
        aim = self._random.choice(self._aims) if self._random.random() < 0.5 else None
        count = self._random.randint(1, aim.most) if aim is not None else 0
        target = self._random.choice(TARGETS)
        at = self._random.uniform(0, self.whole_seconds)
        late = self._random.choice((0.0, self._random.uniform(0, 0.005), self._random.uniform(0, 0.05)))
        before = _states(out)
        begin = time.monotonic()
        process = start(argv, folder, folder / "console.txt", fork=self.fork)
        if not kill:
            return process.wait(MOST_SECONDS_OF_A_RUN)
        seen = set(aim.states(out)) if aim is not None else set()
        count += len(seen)
        before_aim = seen.copy()
        for now in moments(MOST_SECONDS_OF_A_RUN, 0.002 if aim is None else 0.0003):
            if aim is not None:
                seen |= set(aim.states(out))
            if len(seen) >= count if aim is not None else now >= at:
                break
            if (code := process.poll()) is not None:
                return code
        time.sleep(late)
        below = descendants(process.pid)
        if target == "group":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGKILL)
            if target == "all":
                kill_all([*below, *descendants(os.getpid())])
        seconds = time.monotonic() - begin
        if process.wait(60) != -signal.SIGKILL:
            # It had come to its end just before.
            return process.returncode
        found.problems += [f"after kill {len(found.kills) + 1}: {text}" for text in unreadable(out)]
        words = "time" if aim is None else f"{aim.folder}/{aim.pattern} {count - len(before_aim)}"
        found.kills.append(Kill(number, seconds, target, words, _phase(before, _states(out)), self._end_of_all(found)))
        found.problems += [f"after kill {len(found.kills)}, later: {text}" for text in unreadable(out)]
        return None

    def _end_of_all(self, found: Round) -> float:
        """Wait until no process of a killed run is left; those that do not end are a problem, and ended."""
        begin = time.monotonic()
        for _ in moments(MOST_SECONDS, 0.02):
            if not descendants(os.getpid()):
                break
        left = descendants(os.getpid())
        if left:
            names = [Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200] for pid in left]
            found.problems.append(f"processes live on after {MOST_SECONDS:g} s: {'; '.join(names)}")
            kill_all(left)
        reap()
        return time.monotonic() - begin

    def _compared(self, out: Path) -> list[str]:
        problems = list(unreadable(out))
        problems += [f"{name}: a temporary file is left" for name in files_of(out) if is_temporary(name)]
        whole = self._undisturbed("again", out) if self.command.same_as else self.whole
        for folder in (out, whole):
            remove_unsettled(self.command, folder)
        return problems + list(differences(out, whole))


@dataclass(frozen=True)
class _Aim:
    """Files of one kind in a folder.

    Attributes:
        folder: below the output folder.
        pattern: of their names.
        most: changes that may be waited for.
    """

    folder: str
    pattern: str
    most: int

    def states(self, out: Path) -> Iterator[tuple]:
        """Names and states of the files that are there now."""
        try:
            with os.scandir(out / self.folder) as entries:
                for entry in entries:
                    if fnmatch.fnmatchcase(entry.name, self.pattern) and (state := _state(Path(entry.path))):
                        yield entry.name, *state
        except FileNotFoundError:
            return


def _aims(names: Sequence[str]) -> list[_Aim]:
    """Each kind of file, and the hidden files that are renamed to them; names in which numbers or hashes are differ."""
    kinds: Counter[tuple[str, str]] = Counter()
    for name in names:
        path = Path(name)
        many = path.parent.name in ("images", "records", "pictures") or path.suffix == ".pth"
        kinds[path.parent.as_posix(), f"*{path.suffix}" if many else path.name] += 1
    aims = [_Aim(folder, pattern, max(2, number)) for (folder, pattern), number in sorted(kinds.items())]
    return aims + [_Aim(aim.folder, f".{aim.pattern}.tmp", aim.most) for aim in aims]


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def _states(folder: Path) -> dict[str, tuple[int, int, int] | None]:
    return {name: _state(folder / name) for name in files_of(folder) if is_compared(name)} if folder.is_dir() else {}


def _phase(before: dict, after: dict) -> str:
    changed = [(state[1], name) for name, state in after.items() if state is not None and before.get(name) != state]
    return max(changed)[1] if changed else "start"
