"""Jobs of two processes on the CPU, spawned by launch and started by torchrun, on the engine in use."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mammo_d2.framework import ENGINE, launch
from mammo_d2.framework.embedded.engine.launch import launch as embedded_launch
from mammo_d2.framework.embedded.utils import comm as embedded_comm
from tests.framework import job_cases, launch_jobs

ROOT = Path(__file__).parents[4]
pytestmark = pytest.mark.slow  # starts processes, in two ways


@pytest.fixture(scope="module", params=["launch", "torchrun"])
def findings(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, hidden_gpus: None
) -> list[dict[str, Any]]:
    """What each rank found, in both ways of starting."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "launch":
        launch(launch_jobs.main, 2, dist_url="auto", args=(str(folder),))
    else:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        subprocess.run(
            [*command, "-m", "tests.framework.launch_jobs", str(folder)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            check=True,
            capture_output=True,
        )
    return [{**json.loads((folder / f"rank{rank}.json").read_text()), "folder": folder} for rank in (0, 1)]


def test_who_is_who(findings: list[dict[str, Any]]) -> None:
    assert [(f["rank"], f["size"], f["local"], f["main"]) for f in findings] == [
        (0, 2, 0, True),
        (1, 2, 1, False),
    ]


def test_objects_are_gathered_in_the_order_of_ranks(findings: list[dict[str, Any]]) -> None:
    assert [f["all_gather"] for f in findings] == [[{"rank": 0}, {"rank": 1}]] * 2
    assert [f["gather"] for f in findings] == [[0, 10], []]
    assert [f["gather_to_1"] for f in findings] == [[], [0, 1]]
    assert findings[0]["seed"] == findings[1]["seed"]


def test_every_image_is_evaluated_once(findings: list[dict[str, Any]]) -> None:
    assert findings[0]["results"] == {"seen": [[0, 0], [1, 0], [2, 0], [3, 1], [4, 1]]}
    assert findings[1]["results"] == {}


@pytest.mark.skipif(ENGINE != "embedded", reason="detectron2's DistributedDataParallel wrapper needs GPUs")
def test_gradient_equals_one_process_on_the_joined_batch(findings: list[dict[str, Any]]) -> None:
    # mean over x in (1, 2, 2, 3) of d(wx + b)²/dw = 2x² = 9 and d/db = 2x = 4
    assert [f["gradient"] for f in findings] == [[9.0, 4.0]] * 2


@pytest.mark.skipif(ENGINE != "embedded", reason="detectron2's DistributedDataParallel wrapper needs GPUs")
def test_training_equals_that_of_one_process(findings: list[dict[str, Any]]) -> None:
    expected = job_cases.golden()["toy_training"]["training"]
    for found in findings:
        assert found["weight"] == pytest.approx(expected["weight"], rel=1e-5)
    assert findings[0]["toy"]["toy"] == pytest.approx(expected["results"]["toy"], rel=1e-5)
    assert sorted(path.name for path in findings[0]["folder"].glob("*.pth")) == expected["files"]


@pytest.mark.skipif(sys.platform != "linux", reason="thread names are read from /proc")
@pytest.mark.parametrize("findings", ["torchrun"], indirect=True)
def test_no_thread_of_a_process_group_outlives_the_job(findings: list[dict[str, Any]]) -> None:
    # One that still ran when the interpreter shuts down aborted about one job in ten.
    for rank in (0, 1):
        names = json.loads((findings[0]["folder"] / f"threads{rank}.json").read_text())
        assert names
        assert [name for name in names if "gloo" in name] == []


def test_one_process_runs_here_and_returns_its_result() -> None:
    assert embedded_launch(lambda a, b: a + b, 1, args=(1, 2)) == 3
    assert (embedded_comm.get_rank(), embedded_comm.get_world_size(), embedded_comm.get_local_rank()) == (0, 1, 0)
    assert embedded_comm.all_gather("x") == embedded_comm.gather("x") == ["x"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_machines": 2, "dist_url": "auto"}, "auto works on one machine only"),
        ({"num_machines": 2}, "several processes need --dist-url"),
    ],
)
def test_wrong_addresses_are_explained(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedded_launch(print, 1, **arguments)


def test_more_processes_than_gpus_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ValueError, match="--num-gpus is 2, but this machine has 1; hide them for a job on the CPU"):
        embedded_launch(print, 2, dist_url="auto")
