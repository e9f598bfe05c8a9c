"""The evaluation loop, evaluators and results."""

import logging
from typing import Any

import pytest
import torch
from torch import nn

from mammo_d2.framework.embedded.engine.inference import (
    DatasetEvaluator,
    DatasetEvaluators,
    flatten_results_dict,
    inference_on_dataset,
    print_csv_format,
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


def test_several_evaluators() -> None:
    double = [[1], [2]]
    assert inference_on_dataset(Double(), double, [Collect("a"), Collect("b")]) == {"a": {"sum": 6}, "b": {"sum": 6}}
    with pytest.raises(AssertionError, match="two evaluators give results named 'a'"):
        inference_on_dataset(Double(), double, DatasetEvaluators([Collect("a"), Collect("a")]))


def test_rank_without_data() -> None:
    assert inference_on_dataset(Double(), [], Collect()) == {"t": {"sum": 0}}


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
