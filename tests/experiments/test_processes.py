import json
import os
import subprocess
import sys

import pytest

from mammo_d2.experiments import processes
from mammo_d2.experiments.processes import write_tables


@pytest.fixture
def started(monkeypatch):
    """Stand-ins for trainings: a list of (CUDA_VISIBLE_DEVICES, process), one per start."""
    found = []
    popen = subprocess.Popen

    def start(command, env, **options):
        process = popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        found.append((env.get("CUDA_VISIBLE_DEVICES"), process))
        return process

    monkeypatch.setattr(processes.subprocess, "Popen", start)
    monkeypatch.setattr(processes, "_running", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    yield found
    for _, process in found:
        process.kill()
        process.communicate()


def start(folder, number: int) -> None:
    for _ in range(number):
        processes.start_job(folder, "", [], jobs=3)


def gpus(started) -> list:
    return [gpu for gpu, _ in started]


def test_runs_at_the_same_time_share_the_gpus_evenly(tmp_path, started, monkeypatch):
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 2)
    start(tmp_path, 3)
    assert gpus(started) == ["0", "1", "0"]
    for number in (0, 2):
        started[number][1].communicate(b"\n")
    start(tmp_path, 3)  # GPU 1 still has one run; of GPUs with as many the first is taken
    assert gpus(started)[3:] == ["0", "0", "1"]


def test_gpus_that_the_user_chose(tmp_path, started, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 2)
    start(tmp_path, 2)
    assert gpus(started) == ["3", "5"]


def test_one_run_at_a_time_sees_all_gpus(tmp_path, started, monkeypatch):
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 2)
    processes.start_job(tmp_path, "", [], jobs=1)
    assert gpus(started) == [None]


def test_without_gpu_nothing_is_chosen(tmp_path, started, monkeypatch):
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 0)
    start(tmp_path, 2)
    assert gpus(started) == [None, None]


def test_a_started_run_knows_who_waits_for_it(tmp_path, monkeypatch):
    environments = []
    monkeypatch.setattr(processes.subprocess, "Popen", lambda command, env, **_: environments.append(env))
    start(tmp_path, 1)
    assert environments[0]["MAMMO_D2_STARTED_BY"] == str(os.getpid())


def test_tables_replace_former_ones_as_a_whole(tmp_path, monkeypatch):
    rows = [{"trial": 0, "value": 0.5}, {"trial": 1, "value": None, "reason": "a, b"}]
    processes.write_tables(rows, "| trial |", tmp_path, "search")
    assert (tmp_path / "search.md").read_text() == "| trial |\n"
    assert json.loads((tmp_path / "search.json").read_text()) == rows
    assert (tmp_path / "search.csv").read_bytes() == b'trial,value,reason\r\n0,0.5,\r\n1,,"a, b"\r\n'

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(KeyboardInterrupt):
        processes.write_tables(rows[:1], "| other |", tmp_path, "search")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_undefined_numbers_are_null_in_json_and_nan_in_csv(tmp_path):
    write_tables([{"fold": 0, "auc": float("nan")}, {"fold": 1, "auc": 0.5}], "| table |", tmp_path, "t")
    text = (tmp_path / "t.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == [{"fold": 0, "auc": None}, {"fold": 1, "auc": 0.5}]
    assert (tmp_path / "t.csv").read_text().splitlines() == ["fold,auc", "0,nan", "1,0.5"]
    assert (tmp_path / "t.md").read_text() == "| table |\n"
