"""A few mutated files of each kind; ``python -m tests.fuzz`` runs many.

They run in a process of their own: the cases' child is forked, and a fork of a process whose libraries have threads, as
after other tests, may wait for ever.
"""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.fuzz import outcomes
from tests.fuzz.cases import KINDS
from tests.fuzz.outcomes import GOOD, run_cases

CASES_PER_KIND = 34
ALONE = "MAMMO_D2_FUZZ_ALONE"
alone = pytest.mark.skipif(ALONE not in os.environ, reason="run by test_in_a_process_of_its_own")


def test_in_a_process_of_its_own():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist", __file__, "-k", "not own"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, ALONE: "1"}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert f"{len(KINDS) + 1} passed" in done.stdout


@alone
@pytest.mark.parametrize("kind", KINDS)
def test_read_or_refused_by_name(kind):
    ended = list(run_cases([(kind, seed) for seed in range(CASES_PER_KIND)]))
    assert [case.seed for case in ended] == list(range(CASES_PER_KIND))
    assert [case for case in ended if case.outcome not in GOOD] == []
    # Neither ends every case: the mutations are not too hard and not too soft.
    assert {case.outcome for case in ended} == {"fine", "clean"}


def _die(seed):
    outcomes.os.kill(outcomes.os.getpid(), outcomes.signal.SIGSEGV)


def _raise(error):
    raise error


STRANGE = {
    0: lambda: None,
    1: lambda: "negative pixels",
    2: lambda: _raise(ValueError("case.png: damaged")),
    3: lambda: _raise(ValueError("damaged")),
    4: lambda: _raise(KeyError("id")),
    5: lambda: _raise(TypeError("case.png: None")),
    6: lambda: _die(6),
    7: lambda: outcomes.time.sleep(5),
    8: lambda: None,
}


@alone
def test_every_end_is_noticed(monkeypatch):
    monkeypatch.setattr(outcomes, "read_case", lambda kind, seed, folder: STRANGE[seed]())
    monkeypatch.setattr(outcomes, "MOST_SECONDS", 0.5)
    ended = list(run_cases([("toy", seed) for seed in STRANGE]))
    assert [case.seed for case in ended] == list(STRANGE)
    names = ["fine", "wrong", "clean", "vague", "crash", "crash", "crash", "slow", "fine"]
    assert [case.outcome for case in ended] == names
    assert ended[6].detail == "the process ended (-11)"
