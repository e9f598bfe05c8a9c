"""Worker processes: a crash costs one image, and none outlives the run that started it."""

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.workers import run_images
from tests.conftest import ROOT
from tests.data.toy_source import ToySource, write_breasts

KEYS = [f"p{n}" for n in range(8)]


class CrashingSource(ToySource):
    """Reading p1 and p6 ends the process, as a decoder does that reads outside of its memory."""

    def read(self, image):
        if image.key in ("p1", "p6"):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().read(image)


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "source").mkdir()
    write_breasts(tmp_path / "source", KEYS)
    return CrashingSource(tmp_path / "source", [(key, key, []) for key in KEYS])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crash_costs_one_image_and_names_its_file(sources, tmp_path, workers):
    options = PrepareOptions(workers=workers, progress=False)
    with closing(run_images(sources, list(sources.images()), options, tmp_path / "out")) as running:
        outcomes = list(running)
    assert [outcome.key for outcome in outcomes] == KEYS
    assert [outcome.key for outcome in outcomes if outcome.image is None] == ["p1", "p6"]
    (issue,) = outcomes[1].issues
    assert (issue.level, issue.key) == ("error", "p1")
    assert "p1.png: the process that prepared this image ended without a message" in issue.problem


class SlowSource(ToySource):
    """Leaves a file named by the worker's process id, and takes a minute for each image."""

    def read(self, image):
        (self.source / f"{os.getpid()}.pid").touch()
        time.sleep(60)
        return super().read(image)


def main(folder):
    """The run that is killed."""
    source = SlowSource(Path(folder), [(key, key, []) for key in KEYS])
    prepare(source, Path(folder) / "out", PrepareOptions(workers=2, progress=False))


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def test_workers_end_when_the_run_is_killed(tmp_path):
    write_breasts(tmp_path, KEYS)
    command = [sys.executable, "-c", f"from tests.data.prepare.test_workers import main; main({str(tmp_path)!r})"]
    run = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        assert wait_until(lambda: len(list(tmp_path.glob("*.pid"))) == 2, 60)
    finally:
        run.send_signal(signal.SIGKILL)
        run.wait()
    workers = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert wait_until(lambda: not any(alive(pid) for pid in workers), 5)
