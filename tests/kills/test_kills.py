"""A few kills of each command; ``python -m tests.kills`` makes many.

They run in a process of their own: it becomes the parent of orphans, and the commands are forks of it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tests.kills", "--fork", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="adopts orphans, and looks for them in /proc")
def test_killed_commands_end_as_undisturbed_ones(tmp_path: Path):
    done = run("--kills", "2", "--per-round", "2", "--trials", "1", "--small", "--work", str(tmp_path / "work"))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for name in ("prepare", "train", "predict", "search"):
        assert f"\n{name}: 2 kills, " in f"\n{done.stdout}", done.stdout
    assert "DIFFERENT" not in done.stdout
