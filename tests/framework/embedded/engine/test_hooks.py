"""The standard hooks, in a trainer whose step only counts."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from fvcore.common.param_scheduler import LinearParamScheduler
from torch import nn

from mammo_d2.framework.embedded.engine import hooks
from mammo_d2.framework.embedded.engine.checkpoint import SafeCheckpointer
from mammo_d2.framework.embedded.engine.solver import LRMultiplier
from mammo_d2.framework.embedded.engine.trainer import HookBase, TrainerBase
from mammo_d2.framework.embedded.utils.writers import EventWriter


class Counting(TrainerBase):
    """Counts its steps; may fail in one."""

    def __init__(self, *hooks: HookBase, fails_at: int = -1):
        super().__init__()
        self.steps = 0
        self.fails_at = fails_at
        self.register_hooks(hooks)

    def run_step(self) -> None:
        if self.iter == self.fails_at:
            raise RuntimeError("step failed")
        self.steps += 1


class Record(HookBase):
    """Writes down when it is called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def before_train(self) -> None:
        self.calls.append("before_train")

    def before_step(self) -> None:
        self.calls.append(f"before_step {self.trainer.iter}")

    def after_step(self) -> None:
        self.calls.append(f"after_step {self.trainer.storage.iter}")

    def after_train(self) -> None:
        self.calls.append(f"after_train {self.trainer.iter}")


def test_order_of_calls() -> None:
    record = Record()
    Counting(record).train(3, 5)
    assert record.calls == [
        "before_train",
        *["before_step 3", "after_step 3"],
        *["before_step 4", "after_step 4"],
        "after_train 5",
    ]


def test_after_train_is_called_after_an_error_too(caplog: pytest.LogCaptureFixture) -> None:
    record = Record()
    with pytest.raises(RuntimeError, match="step failed"):
        Counting(record, fails_at=1).train(0, 5)
    assert record.calls[-2:] == ["before_step 1", "after_train 1"]
    assert "Training stopped at iteration 1 by an error" in caplog.text


def test_only_hooks_are_hooks() -> None:
    trainer = Counting()
    trainer.register_hooks([None])
    with pytest.raises(TypeError, match="must be a HookBase"):
        trainer.register_hooks([print])  # type: ignore[list-item]


def test_evaluation_periods_and_scalars() -> None:
    when: list[int] = []

    def evaluate() -> dict[str, Any]:
        when.append(trainer.iter)
        return {"bbox": {"AP50": 10.0 * len(when)}, "n": 3}

    trainer = Counting(hooks.EvalHook(2, evaluate))
    trainer.train(0, 6)
    assert when == [1, 3, 6]  # not at 5: the last one is in after_train
    assert trainer.storage.latest() == {"bbox/AP50": (30.0, 6), "n": (3.0, 6)}


def test_no_evaluation_after_a_failed_training() -> None:
    when: list[int] = []
    trainer = Counting(hooks.EvalHook(0, lambda: when.append(1)), fails_at=1)
    with pytest.raises(RuntimeError):
        trainer.train(0, 3)
    assert when == []


@pytest.mark.parametrize(
    ("results", "error", "message"),
    [({"a": {"b": "high"}}, ValueError, "'a/b' of the evaluation is 'high'"), ([1], TypeError, "must return a dict")],
)
def test_results_must_be_numbers(results: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        Counting(hooks.EvalHook(1, lambda: results)).train(0, 2)


class Checkpoints:
    """Stands for a checkpointer; writes down the names."""

    path_manager = None

    def __init__(self) -> None:
        self.saved: list[tuple[str, int]] = []

    def save(self, name: str, iteration: int) -> None:
        self.saved.append((name, iteration))


def test_periodic_checkpoints() -> None:
    checkpoints = Checkpoints()
    Counting(hooks.PeriodicCheckpointer(checkpoints, 2)).train(0, 5)  # type: ignore[arg-type]
    assert checkpoints.saved == [("model_0000001", 1), ("model_0000003", 3), ("model_final", 4)]


def test_schedule_steps_after_its_rate_is_logged() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    hook = hooks.LRScheduler()
    seen: list[float] = []

    class Step(HookBase):
        def before_step(self) -> None:
            optimizer.step()

    class Look(HookBase):
        def after_step(self) -> None:
            seen.append(self.trainer.storage.latest()["lr"][0])

    trainer = Counting(Step(), hook, Look())
    trainer.optimizer = optimizer  # type: ignore[attr-defined]
    trainer.scheduler = LRMultiplier(optimizer, LinearParamScheduler(1.0, 0.0), 4)  # type: ignore[attr-defined]
    trainer.train(0, 4)
    assert seen == [1.0, 0.75, 0.5, 0.25]
    assert optimizer.param_groups[0]["lr"] == 0.0
    assert hook.state_dict() == {"base_lrs": [1.0], "last_epoch": 4}


@pytest.mark.parametrize(
    ("groups", "shown"),
    [([(1, 0.1), (3, 0.2), (2, 0.3)], 1), ([(1, 0.1), (1, 0.2), (1, 0.2)], 1), ([(1, 0.3), (1, 0.2)], 0)],
)
def test_group_whose_rate_is_logged(groups: list[tuple[int, float]], shown: int) -> None:
    parameters = [{"params": [nn.Parameter(torch.zeros(1)) for _ in range(n)], "lr": lr} for n, lr in groups]
    assert hooks.LRScheduler.get_best_param_group_id(torch.optim.SGD(parameters, lr=1.0)) == shown


class CountingWriter(EventWriter):
    def __init__(self) -> None:
        self.calls: list[str] = []

    def write(self) -> None:
        self.calls.append("write")

    def close(self) -> None:
        self.calls.append("close")


def test_writers_write_periodically_at_the_last_step_and_at_the_end() -> None:
    writer = CountingWriter()
    Counting(hooks.PeriodicWriter([writer], period=3)).train(0, 7)
    assert writer.calls == ["write"] * 3 + ["write", "close"]  # after 3, 6, 7 and at the end
    with pytest.raises(TypeError, match="must be an EventWriter"):
        hooks.PeriodicWriter([print])  # type: ignore[list-item]


def test_time_is_measured_after_the_warm_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    trainer = Counting(hooks.IterationTimer(warmup_iter=2))
    trainer.train(0, 6)
    # of 6 steps the first is not timed; the one that ends the warm-up is
    assert [iteration for _, iteration in trainer.storage.history("time").values()] == [1, 2, 3, 4, 5]
    assert "(5 iterations in" in caplog.text


def test_states_by_class_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Stateful(HookBase):
        def __init__(self, value: int):
            self.value = value

        def state_dict(self) -> dict[str, Any]:
            return {"value": self.value}

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.value = state["value"]

    trainer = Counting(Stateful(1), Record(), Stateful(2))
    trainer.iter = 9
    name = Stateful.__qualname__
    assert trainer.state_dict() == {"iteration": 9, "hooks": {name: {"value": 1}, f"{name}#2": {"value": 2}}}
    SafeCheckpointer(nn.Linear(1, 1), str(tmp_path), trainer=trainer).save("m")

    first, second = Stateful(0), Stateful(0)
    resumed = Counting(first, second)
    SafeCheckpointer(nn.Linear(1, 1), str(tmp_path), trainer=resumed).resume_or_load("")
    assert (resumed.iter, first.value, second.value) == (9, 1, 2)
    Counting(Record()).load_state_dict(trainer.state_dict())
    assert f"state for the hook {name}" in caplog.text
