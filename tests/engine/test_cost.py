"""What trainings and predictions cost, by hand."""

import json
from types import SimpleNamespace

import pytest
from torch import nn

from mammo_d2.engine import cost
from mammo_d2.engine.cost import PredictionClock, TrainingCost, read_cost


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(cost.time, "perf_counter", lambda: self.now)


def memory(monkeypatch, megabytes):
    monkeypatch.setattr(cost, "peak_memory", lambda: {"memory_mb": megabytes, "gpu_memory_mb": None})


def test_attempts_are_added(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)
    hook = TrainingCost(tmp_path)
    for start, iteration, seconds, peak in ((0, 4, 10.0, 300.0), (5, 9, 7.0, 200.0)):
        memory(monkeypatch, peak)
        hook.trainer = SimpleNamespace(start_iter=start, iter=iteration)
        hook.before_train()
        clock.now += seconds
        hook.after_train()
    expected = {"seconds": 17.0, "memory_mb": 300.0, "gpu_memory_mb": None, "iterations": 10}
    assert json.loads((tmp_path / "training_cost.json").read_text()) == expected
    hook.trainer = SimpleNamespace(start_iter=0, iter=0)  # begun anew
    hook.before_train()
    hook.after_train()
    assert read_cost(tmp_path / "training_cost.json")["seconds"] == 0


def test_a_damaged_file_costs_nothing(tmp_path):
    (tmp_path / "a.json").write_text("{")
    assert read_cost(tmp_path / "a.json") == read_cost(tmp_path / "b.json") == {}


def test_the_clock_counts_images_and_the_time_in_the_model(tmp_path, monkeypatch):
    clock = Clock(monkeypatch)

    class Model(nn.Module):
        def forward(self, batch):
            clock.now += 2.0 * len(batch)
            return batch

    model = Model()
    with PredictionClock(model) as seen:
        model([{}, {}])
        clock.now += 50.0  # the evaluators
        model([{}])
    model([{}])
    seen.write(tmp_path)
    written = json.loads((tmp_path / "prediction_cost.json").read_text())
    assert (written["seconds"], written["images"]) == (6.0, 3)
    assert written["memory_mb"] == pytest.approx(cost.peak_memory()["memory_mb"], rel=0.5)
