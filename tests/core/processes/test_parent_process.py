"""Commands that stop with the process that started them."""

import os
import subprocess
import sys
import time

import pytest

from mammo_d2.core.processes.parent_process import STARTER_VARIABLE
from tests.conftest import ROOT

CHILD = """
import signal, sys, time
from mammo_d2.core.processes.parent_process import stop_with_starter
if sys.argv[1] == "saves":
    signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[2], "w").write("saved"), sys.exit(0)))
else:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
stop_with_starter(interval=0.05, grace=0.3)
print("ready", flush=True)
time.sleep(60)
"""
# Starts the child, gives its output on, and ends when it is told.
STARTER = f"""
import os, subprocess, sys
if sys.argv[1] == "named":
    os.environ["{STARTER_VARIABLE}"] = str(os.getpid())
subprocess.Popen([sys.executable, "-c", sys.argv[2], *sys.argv[3:]])
input()
"""


def start(named: str, kind: str, path) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop(STARTER_VARIABLE, None)
    command = [sys.executable, "-c", STARTER, named, CHILD, kind, str(path)]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("kind", ["saves", "hangs"])
def test_a_command_is_asked_to_stop_when_its_starter_is_killed_and_ended_after_a_while(kind, tmp_path):
    process = start("named", kind, tmp_path / "out.txt")
    process.kill()
    begin = time.monotonic()
    assert process.stdout.read() == ""  # the end of the pipe: the child is gone, too
    assert time.monotonic() - begin < 20
    assert (tmp_path / "out.txt").exists() == (kind == "saves")


def test_a_command_that_a_person_started_goes_on(tmp_path):
    process = start("unnamed", "saves", tmp_path / "out.txt")
    process.kill()
    time.sleep(0.5)
    assert not (tmp_path / "out.txt").exists()
    os.killpg(process.pid, 9)
    process.stdout.read()
