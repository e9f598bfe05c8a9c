"""A few mistakes in each file of each command; ``python -m tests.fuzz.commands`` makes all.

They run in a process of their own, as in ``test_fuzz``.
"""

import subprocess
import sys

from tests.conftest import ROOT
from tests.fuzz.commands import all_targets

CASES_PER_TARGET = 6


def test_no_mistake_ends_in_a_traceback_or_a_wrong_number():
    command = [sys.executable, "-m", "tests.fuzz.commands", "--sample", str(CASES_PER_TARGET)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    *_, total = done.stdout.splitlines()
    cases = CASES_PER_TARGET * len(all_targets())
    name, fine, clean, *bad, total_cases = total.split()
    assert (name, bad, int(total_cases)) == ("all", ["0"] * 4, cases)
    # Neither ends every case: the mistakes are not too hard and not too soft.
    assert min(int(fine), int(clean)) > cases / 8
