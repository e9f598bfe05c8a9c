"""MLflow with a store in a folder; W&B with a stand-in for its package, which is not asked to be installed."""

import math
import sys
from types import SimpleNamespace

import pytest

from mammo_d2.engine.monitoring.trackers import MLflowTracker, WandbTracker, finite


def test_only_finite_numbers_are_told():
    assert finite({"a": 1, "b": math.nan, "c": math.inf, "d": 0.5}) == {"a": 1.0, "d": 0.5}


def test_mlflow_run_is_written_ended_and_continued(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = {f"KEY.{n}": str(n) for n in range(230)} | {"LONG": "x" * 7000}
    tracker = MLflowTracker("breasts", "output/mine", config, "SEED: 3\n")
    tracker.log({"malignant/sens@0.5": 0.25, "total_loss": 2.0}, 19)
    tracker.finish("KILLED", "")
    again = MLflowTracker("breasts", "output/mine", config, "SEED: 3\n", run_id=tracker.run_id)
    again.log({"total_loss": 1.0}, 39)
    again.finish("FINISHED", "/out/model_final.pth")
    client = MlflowClient(f"file:{tmp_path / 'mlruns'}")
    (found,) = client.search_runs([client.get_experiment_by_name("breasts").experiment_id])
    assert (found.info.run_id, found.info.run_name, found.info.status) == (tracker.run_id, "output/mine", "FINISHED")
    assert found.data.metrics == {"malignant/sens_at_0.5": 0.25, "total_loss": 1.0}
    assert [(m.step, m.value) for m in client.get_metric_history(tracker.run_id, "total_loss")] == [
        (19, 2.0),
        (39, 1.0),
    ]
    assert (len(found.data.params), found.data.params["KEY.229"]) == (231, "229")
    assert len(found.data.params["LONG"]) == 6000
    assert found.data.tags["result_weights"] == "/out/model_final.pth"
    assert [file.path for file in client.list_artifacts(tracker.run_id)] == ["config.yaml"]


@pytest.fixture
def wandb(monkeypatch):
    """Keeps what the package would be told."""
    told = []

    def init(**arguments):
        told.append(("init", arguments))
        log = lambda numbers, step: told.append(("log", numbers, step))  # noqa: E731
        finish = lambda exit_code: told.append(("finish", exit_code))  # noqa: E731
        return SimpleNamespace(id="w1", log=log, finish=finish, summary={})

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return told


def test_wandb_is_offline_unless_asked(wandb, monkeypatch):
    tracker = WandbTracker("breasts", "output/mine", {"SEED": "3"}, "/out")
    tracker.log({"total_loss": 2.0}, 19)
    tracker.finish("FINISHED", "/out/model_final.pth")
    expected = {"project": "breasts", "name": "output/mine", "config": {"SEED": "3"}, "dir": "/out"}
    assert wandb[0] == ("init", {**expected, "id": None, "resume": None, "mode": "offline"})
    assert wandb[1:] == [("log", {"total_loss": 2.0}, 19), ("finish", 0)]
    assert tracker._run.summary == {"result_weights": "/out/model_final.pth"}
    monkeypatch.setenv("WANDB_MODE", "online")
    WandbTracker("breasts", "output/mine", {}, "/out", run_id="w1").finish("FAILED", "")
    (_, again), end = wandb[3:]
    assert (again["id"], again["resume"], again["mode"], end) == ("w1", "allow", "online", ("finish", 1))
