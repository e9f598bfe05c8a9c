"""Freed memory that stays: no page is asked for twice, and people who chose otherwise are left alone."""

import argparse
import platform
import subprocess
import sys

import pytest

from mammo_d2.cli.results import classify_lesions, predict
from mammo_d2.cli.training import benchmark
from mammo_d2.core.processes import kept_memory
from mammo_d2.core.processes.kept_memory import keep_freed_memory
from mammo_d2.jobs import job
from tests.conftest import ROOT

# Four blocks of 64 MiB, one after the other, then the faults of four more.
FAULTS = """
import resource, sys
from mammo_d2.core.processes.kept_memory import keep_freed_memory
kept = keep_freed_memory({}) if sys.argv[1] == "keep" else False
def blocks():
    for _ in range(4):
        b"x" * (1 << 26)
blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
blocks()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_the_same_pages_are_used_again():
    def faults(how):
        done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, cwd=ROOT, check=True)
        return [int(word) for word in done.stdout.split()]

    kept, few = faults("keep")
    assert kept == 1
    assert few < 100
    _, many = faults("leave")
    assert many > 50 * max(few, 1)


@pytest.mark.parametrize(
    "name", [kept_memory.SWITCH, "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES", "LD_PRELOAD"]
)
def test_what_the_user_has_chosen_stays(name, monkeypatch):
    monkeypatch.setattr(kept_memory.ctypes, "CDLL", lambda path: pytest.fail("mallopt must not be called"))
    assert not keep_freed_memory({name: "0"})


def test_nothing_happens_with_another_c_library(monkeypatch):
    monkeypatch.setattr(kept_memory.ctypes, "CDLL", lambda path: pytest.fail("there is no mallopt"))
    monkeypatch.setattr(kept_memory.platform, "libc_ver", lambda: ("", ""))
    assert not keep_freed_memory({})


class Called(Exception):
    pass


@pytest.mark.parametrize(
    ("module", "start"),
    [
        (job, lambda: job.main(argparse.Namespace())),
        (predict, lambda: predict.run(["--config-file", "no.yaml"])),
        (
            classify_lesions,
            lambda: classify_lesions.run(["--config-file", "no.yaml", "--dataset", "none", "--output", "never"]),
        ),
        (benchmark, lambda: benchmark.run(["train", "--profile", "--config-file", "no.yaml"])),
    ],
    ids=["train", "predict", "classify-lesions", "benchmark"],
)
def test_commands_that_run_models_keep_it(module, start, monkeypatch):
    def called():
        raise Called

    monkeypatch.setattr(module, "keep_freed_memory", called)
    with pytest.raises(Called):
        start()
