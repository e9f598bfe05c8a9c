"""Run many mutated files and print how they ended, by kind; exit code 1 if one did not end well."""

from __future__ import annotations

import argparse
import time
from collections import Counter

from tests.fuzz.cases import KINDS
from tests.fuzz.outcomes import GOOD, OUTCOMES, run_cases


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=20_000, help="of all kinds together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first case of each kind (default: %(default)s)")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after so long")
    args = parser.parse_args()
    each = -(-args.cases // len(args.kinds))
    cases = [(kind, args.seed + n) for n in range(each) for kind in args.kinds][: args.cases]
    counts: Counter[tuple[str, str]] = Counter()
    start = time.monotonic()
    for ended in run_cases(cases):
        counts[ended.kind, ended.outcome] += 1
        if ended.outcome not in GOOD:
            print(f"{ended.kind} {ended.seed}: {ended.outcome}: {' '.join(ended.detail.split())}", flush=True)
        if time.monotonic() - start > args.seconds:
            break
    print(f"\n{'kind':12}" + "".join(f"{name:>8}" for name in (*OUTCOMES, "all")))
    for kind in args.kinds:
        numbers = [counts[kind, name] for name in OUTCOMES]
        print(f"{kind:12}" + "".join(f"{number:8}" for number in (*numbers, sum(numbers))))
    numbers = [sum(counts[kind, name] for kind in args.kinds) for name in OUTCOMES]
    print(f"{'all':12}" + "".join(f"{number:8}" for number in (*numbers, sum(numbers))))
    return int(any(n for (_, name), n in counts.items() if name not in GOOD))


if __name__ == "__main__":
    raise SystemExit(main())
