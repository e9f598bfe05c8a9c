"""Defaults of threads: quotas of containers, what a user has set."""

import ast
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import cv2
import pytest
import torch
from torch.utils.data import DataLoader

from mammo_d2.core.processes import crash_safe, threads
from mammo_d2.core.processes.crash_safe import CrashSafeMap
from mammo_d2.core.processes.threads import (
    quota_of_this_process,
    set_thread_defaults,
    threads_each,
    threads_for_processes,
    usable_cores,
)
from mammo_d2.data.loading.mapped_images import worker_options
from mammo_d2.phantom import writer
from tests.conftest import ROOT


@pytest.fixture
def eight_cores(monkeypatch):
    monkeypatch.setattr(threads, "cores_of_this_process", lambda: 8)


@pytest.mark.parametrize(
    ("text", "quota", "cores"),
    [("max 100000\n", None, 8), ("150000 100000\n", 1.5, 2), ("1600000 100000\n", 16, 8), ("20000 100000", 0.2, 1),
     ("nonsense", None, 8), ("0 0", None, 8)],
)  # fmt: skip
@pytest.mark.usefixtures("eight_cores")
def test_quota_of_a_container(tmp_path, text, quota, cores):
    (tmp_path / "cpu.max").write_text(text)
    assert quota_of_this_process(tmp_path) == quota
    assert usable_cores(tmp_path) == cores


@pytest.mark.usefixtures("eight_cores")
def test_quota_of_cgroup_version_1(tmp_path):
    assert quota_of_this_process(tmp_path) is None
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 8
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("300000\n")
    assert usable_cores(tmp_path) == 3


@pytest.mark.usefixtures("eight_cores")
def test_only_what_is_unset_is_set(tmp_path):
    environment: dict[str, str] = {}
    set_thread_defaults(environment, tmp_path)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE"}  # OpenMP finds the eight cores
    (tmp_path / "cpu.max").write_text("200000 100000")
    set_thread_defaults(environment, tmp_path)
    assert environment == {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "2"}
    for given in ({"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "100"}, {"KMP_BLOCKTIME": "1"}):
        environment = {**given, "OMP_NUM_THREADS": "7"}
        set_thread_defaults(environment, tmp_path)
        assert environment == {**given, "OMP_NUM_THREADS": "7"}


def test_processes_side_by_side_share_the_cores(tmp_path, eight_cores, monkeypatch):
    assert [threads_each(number, tmp_path) for number in (0, 1, 3, 8, 20)] == [8, 8, 2, 1, 1]
    (tmp_path / "cpu.max").write_text("400000 100000")
    assert threads_each(2, tmp_path) == 2
    monkeypatch.setattr(threads, "usable_cores", lambda root: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threads_for_processes(2):
        assert os.environ["OMP_NUM_THREADS"] == "4"
    assert "OMP_NUM_THREADS" not in os.environ
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    with threads_for_processes(2):
        assert os.environ["OMP_NUM_THREADS"] == "7"
    assert os.environ["OMP_NUM_THREADS"] == "7"


def threads_here(item: object = None) -> tuple[int, int, str | None]:
    """Of torch, of OpenCV, and of libraries that are still to be imported."""
    return torch.get_num_threads(), cv2.getNumThreads(), os.environ.get("OMP_NUM_THREADS")


class ThreadsOfWorkers(torch.utils.data.Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return threads_here()


@pytest.fixture
def three_threads(monkeypatch):
    """This process has three threads, which forked processes inherit."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    torch.set_num_threads(3)
    cv2.setNumThreads(3)
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


ONE_THREAD = (1, 1, "1")


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
@pytest.mark.usefixtures("three_threads")
def test_every_kind_of_worker_has_one_thread():
    assert threads_here() == (3, 3, "3")
    loader = DataLoader(ThreadsOfWorkers(), batch_size=1, multiprocessing_context="fork", **worker_options(1))
    assert list(loader) == [[ONE_THREAD]] * 2
    assert list(CrashSafeMap(threads_here, str, 1, method="fork")([1])) == [ONE_THREAD]
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(1, fork, writer._start_worker) as pool:
        assert pool.submit(threads_here).result() == ONE_THREAD
    assert threads_here() == (3, 3, "3")


def test_workers_are_started_in_these_ways_only():
    """Every place of the package that starts processes of its own; the tests here are about each of them."""
    words = (
        "ProcessPoolExecutor(",
        "get_context(",
        "start_processes(",
        "Popen(",
        ".Process(",
        "(DataLoader)",
        "os.fork",
    )
    found = {
        path.relative_to(ROOT / "mammo_d2").as_posix()
        for path in (ROOT / "mammo_d2").rglob("*.py")
        if any(word in path.read_text(encoding="utf-8") for word in words)
    }
    assert found == {
        "cli/installation/demo.py",  # commands, which set their own
        "core/processes/crash_safe.py",
        "data/loading/mapped_images.py",  # worker_options
        "experiments/processes.py",  # threads_each
        "framework/embedded/engine/launch.py",  # threads_for_processes
        "phantom/writer.py",
    }
    assert crash_safe.CrashSafeMap.__dataclass_fields__["method"].default == "spawn"


def test_importing_a_command_sets_the_defaults_before_torch_is_there():
    code = (
        "import os, sys, mammo_d2.cli; assert 'torch' not in sys.modules and 'numpy' not in sys.modules; "
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {k: v for k, v in os.environ.items() if k not in threads._WAITING_BY_HAND}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=ROOT)
    assert done.stdout == "PASSIVE\n", done.stderr


@pytest.mark.parametrize("path", sorted((ROOT / "tools").glob("*.py")), ids=lambda path: path.stem)
def test_a_script_imports_the_commands_before_all_else(path):
    """Else torch would come first, which reads the variables once."""
    imports = [node for node in ast.parse(path.read_text()).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    modules = [node.module or "" if isinstance(node, ast.ImportFrom) else node.names[0].name for node in imports]
    first = next(name for name in modules if name.split(".")[0] not in sys.stdlib_module_names)
    assert first.startswith("mammo_d2.cli.") or first == "benchmarks"
