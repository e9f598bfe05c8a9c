"""The evaluation loop, evaluators and results."""

import logging
from typing import Any

import pytest
import torch
from torch import nn

from mammo_d2.framework.embedded import config
from mammo_d2.framework.embedded.engine.inference import (
    DatasetEvaluator,
    DatasetEvaluators,
    flatten_results_dict,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)


class Collect(DatasetEvaluator):
    """Gives the sum of the outputs under a task name."""

    def __init__(self, task: str = "t"):
        self.task = task
        self.seen: list[Any] = [99]

    def reset(self) -> None:
        self.seen = []

    def process(self, inputs: Any, outputs: Any) -> None:
        self.seen += outputs

    def evaluate(self) -> dict[str, Any]:
        return {self.task: {"sum": sum(self.seen)}}


class Double(nn.Module):
    def forward(self, batch: list[int]) -> list[int]:
        assert not self.training
        assert not torch.is_grad_enabled()
        return [2 * x for x in batch]


@pytest.mark.parametrize("training", [True, False])
def test_model_is_evaluated_and_put_back(training: bool) -> None:
    model = Double().train(training)
    assert inference_on_dataset(model, [[1, 2], [3]], Collect()) == {"t": {"sum": 12}}
    assert model.training is training


def test_model_is_put_back_after_an_error() -> None:
    model = Double()
    with pytest.raises(TypeError):
        inference_on_dataset(model, [1], Collect())
    assert model.training


def test_several_evaluators_and_none() -> None:
    double = [[1], [2]]
    assert inference_on_dataset(Double(), double, [Collect("a"), Collect("b")]) == {"a": {"sum": 6}, "b": {"sum": 6}}
    assert inference_on_dataset(Double(), double, None) == {}
    with pytest.raises(AssertionError, match="two evaluators give results named 'a'"):
        inference_on_dataset(Double(), double, DatasetEvaluators([Collect("a"), Collect("a")]))


def test_rank_without_data() -> None:
    assert inference_on_dataset(Double(), [], Collect()) == {"t": {"sum": 0}}


def test_callbacks_are_called_at_their_moments() -> None:
    calls: list[str] = []
    moments = ("on_start", "before_inference", "after_inference", "on_end")
    callbacks = {moment: lambda moment=moment: calls.append(moment) for moment in moments}
    inference_on_dataset(lambda batch: batch, [[1], [2]], None, callbacks)
    pair = ["before_inference", "after_inference"]
    assert calls == ["on_start", *pair, *pair, "on_end"]


def test_results_are_flattened() -> None:
    assert flatten_results_dict({"bbox": {"AP50": 8.0, "size": {"small": 1}}, "x": 2}) == {
        "bbox/AP50": 8.0,
        "bbox/size/small": 1,
        "x": 2,
    }


def test_results_as_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    print_csv_format({"bbox": {"AP": 1.23456, "AP-mass": 2.0, "AP50": 3.0}, "time": 5})
    assert [r.getMessage() for r in caplog.records] == [
        "copypaste: Task: bbox",
        "copypaste: AP,AP50",
        "copypaste: 1.2346,3.0000",
        "copypaste: time=5",
    ]


@pytest.mark.parametrize(
    ("actual", "passes"), [(0.51, True), (0.49, True), (0.4, False), (float("nan"), False), (None, False)]
)
def test_expected_results(actual: float | None, passes: bool, caplog: pytest.LogCaptureFixture) -> None:
    cfg = config.get_cfg()
    assert verify_results(cfg, {})
    cfg.TEST.EXPECTED_RESULTS = [["bbox", "AP", 0.5, 0.02]]
    results = {"bbox": {} if actual is None else {"AP": actual}}
    if passes:
        assert verify_results(cfg, results)
    else:
        with pytest.raises(SystemExit, match="1"):
            verify_results(cfg, results)
        assert f"bbox/AP is {actual}, expected 0.5" in caplog.text
