"""The hook of a tracker: what it is told and when; a training does not fail with it."""

import json
from types import SimpleNamespace

import pytest

from mammo_d2.engine.monitoring.tracking import Tracking, flat_config
from mammo_d2.framework import EventStorage
from tests.data.toy_dataset import toy_config, write_dataset
from tests.engine.toy_training import run


class Told:
    """A tracker that keeps what it is told; at ``broken`` it fails."""

    def __init__(self, run_id, broken=None):
        self.run_id, self.broken, self.lines, self.end = run_id, broken, [], None

    def log(self, numbers, step):
        if step == self.broken:
            raise ConnectionError("no route")
        self.lines.append((step, numbers))

    def finish(self, status, weights):
        self.end = status, weights


@pytest.fixture
def cfg(tmp_path):
    config = toy_config(tmp_path)
    config.OUTPUT_DIR, config.TRACKER.NAME = str(tmp_path), "mlflow"
    return config


def train(cfg, told, iterations=range(45), max_iter=45, stopped=False):
    hook = Tracking(
        cfg, [15, 0], lambda cfg, run_id: told.setdefault("tracker", Told(run_id or "new", told.get("broken")))
    )
    hook.trainer = SimpleNamespace(iter=iterations[0], start_iter=iterations[0], max_iter=max_iter)
    hook.trainer.stopped_by_signal = stopped
    with EventStorage(iterations[0]) as storage:
        hook.before_train()
        for iteration in iterations:
            storage.iter = hook.trainer.iter = iteration
            storage.put_scalar("total_loss", float(iteration))
            if iteration == 29:
                storage.put_scalar("coco/AP50", 0.5, smoothing_hint=False)
                storage.put_scalar("froc/mean", float("nan"), smoothing_hint=False)
            hook.after_step()
        hook.after_train()
    return told["tracker"]


def test_it_is_told_medians_at_the_periods_and_each_evaluation_once(cfg, tmp_path):
    (tmp_path / "model_final.pth").touch()
    tracker = train(cfg, {})
    assert [step for step, _ in tracker.lines] == [14, 19, 29, 39, 44]
    assert tracker.lines[0] == (14, {"total_loss": 7.0})
    assert tracker.lines[2] == (29, {"total_loss": 19.5, "coco/AP50": 0.5})
    assert "coco/AP50" not in tracker.lines[3][1]
    assert tracker.end == ("FINISHED", str(tmp_path / "model_final.pth"))
    assert json.loads((tmp_path / "tracker.json").read_text()) == {"tracker": "mlflow", "run": "new"}
    (tmp_path / "model_best.pth").touch()
    assert train(cfg, {}).end[1].endswith("model_best.pth")


def test_a_resumed_training_continues_its_run(cfg, tmp_path):
    assert train(cfg, {}, range(20), stopped=True).end == ("KILLED", "")
    (tmp_path / "tracker.json").write_text('{"tracker": "mlflow", "run": "former"}')
    tracker = train(cfg, {}, range(20, 45))
    assert (tracker.run_id, tracker.lines[0][0]) == ("former", 29)
    assert train(cfg, {}).run_id == "new"  # from the beginning again
    cfg.TRACKER.NAME = "wandb"
    assert train(cfg, {}, range(20, 45)).run_id == "new"
    (tmp_path / "tracker.json").write_text("[]")
    with pytest.raises(ValueError, match=r"tracker\.json: must hold a JSON object"):
        train(cfg, {}, range(20, 45))


def test_a_tracker_that_fails_is_left_alone(cfg, caplog):
    tracker = train(cfg, {"broken": 29})
    assert ([step for step, _ in tracker.lines], tracker.end) == ([14, 19], None)
    assert caplog.text.count("is told no more") == 1
    assert "ConnectionError: no route" in caplog.text


def test_a_training_that_ends_early_has_failed(cfg):
    assert train(cfg, {}, range(30)).end == ("FAILED", "")


def test_config_is_flat(cfg):
    flat = dict(flat_config(cfg))
    assert (flat["TRACKER.NAME"], flat["INPUT.SIZE"]) == ("mlflow", "[24, 20]")


def test_a_real_training_in_a_store_of_mlflow(tmp_path):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    write_dataset(tmp_path, positives=2, negatives=2)
    store = f"file:{tmp_path / 'store'}"
    short = ["SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.STEPS", "[]", "TEST.EVAL_PERIOD", "2"]
    run(tmp_path, *short, "TRACKER.NAME", "mlflow", "TRACKER.URI", store)
    client = MlflowClient(store)
    (found,) = client.search_runs([client.get_experiment_by_name("mammo_d2").experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.tags["result_weights"] == str(tmp_path / "out" / "model_final.pth")
    assert found.data.params["SOLVER.MAX_ITER"] == "2"
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.json").read_text().splitlines()]
    assert found.data.metrics["total_loss"] == lines[-1]["total_loss"]
    assert "coco/AP50" in found.data.metrics
