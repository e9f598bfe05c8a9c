"""Kill commands at random moments, start them again, and compare what they leave with an undisturbed run's.

Prints a line for each kill and each difference; exit code 1 if there is one. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import Counter
from pathlib import Path

NAMES = ("prepare", "train", "predict", "search")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.kills", description=__doc__)
    parser.add_argument("--command", nargs="+", default=list(NAMES), choices=NAMES)
    parser.add_argument("--kills", type=int, default=20, help="of each command (default: %(default)s)")
    parser.add_argument("--per-round", type=int, default=5, help="then the run is left alone (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=4, help="of the search (default: %(default)s)")
    parser.add_argument("--small", action="store_true", help="fewer images and steps")
    parser.add_argument("--fork", action="store_true", help="in forks of this process: no time goes into imports")
    parser.add_argument("--work", type=Path, help="folder for data and runs, kept; default: a temporary one")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
    with tempfile.TemporaryDirectory() as folder:
        return _run(args, args.work or Path(folder))


def _run(args: argparse.Namespace, work: Path) -> int:
    import torch

    from tests.kills.commands import commands, make_data
    from tests.kills.rounds import Killer

    torch.set_num_threads(1)
    failed = False
    for name in args.command:
        folder = (work / name).resolve()
        folder.mkdir(parents=True)
        make_data(folder / "data", small=args.small)
        killer = Killer(commands(args.trials)[name], folder, args.seed, args.fork)
        print(f"{name}: undisturbed {killer.whole_seconds:.1f} s", flush=True)
        phases: Counter[str] = Counter()
        longest, equal, rounds, seconds = 0.0, 0, 0, 0.0
        for found in killer.rounds(args.kills, args.per_round):
            for kill in found.kills:
                print(
                    f"  start {kill.start}, {kill.seconds:6.2f} s, {kill.target:7}, aim {kill.aim}, last written "
                    f"{kill.phase}; processes lived on {kill.lived_on:.1f} s", flush=True,
                )  # fmt: skip
                phases[kill.phase] += 1
                longest = max(longest, kill.lived_on)
            print(f"  {'DIFFERENT' if found.problems else 'equal'} after {len(found.kills)} kills", flush=True)
            for problem in found.problems:
                print(f"    {problem}", flush=True)
            rounds, equal, seconds = rounds + 1, equal + (not found.problems), seconds + found.seconds
            failed |= bool(found.problems)
        words = ", ".join(f"{phase} {number}" for phase, number in phases.most_common())
        print(
            f"{name}: {sum(phases.values())} kills, {equal} of {rounds} rounds equal, {seconds:.0f} s; processes lived "
            f"on at most {longest:.1f} s; last written: {words}", flush=True,
        )  # fmt: skip
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
