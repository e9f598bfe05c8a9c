import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from mammo_d2.engine.hooks import EMA, BestAndEarlyStop, EventWriting, PeriodicEvaluation, StepSeed
from mammo_d2.framework import ENGINE, EventStorage
from tests.framework import engines


def fake_trainer(iteration=0, max_iter=100):
    return SimpleNamespace(iter=iteration, max_iter=max_iter, stopped=[])


def draw(seed, iteration):
    hook = StepSeed(seed)
    hook.trainer = fake_trainer(iteration)
    hook.before_step()
    return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002


def test_step_seed_depends_on_seed_and_iteration_only():
    assert draw(7, 3) == draw(7, 3)
    assert all(a != b for a, b in zip(draw(7, 3), draw(7, 4), strict=True))
    assert all(a != b for a, b in zip(draw(7, 3), draw(8, 3), strict=True))


def test_ema_follows_the_formula_and_its_state_returns():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    hook = EMA(model, decay=0.75)
    nn.init.constant_(model.weight, 2.0)  # weights loaded after the hook was made
    hook.before_train()
    assert hook.model.weight.item() == 2.0
    hook.after_step()  # the first update copies
    nn.init.constant_(model.weight, 6.0)
    hook.after_step()
    assert hook.model.weight.item() == pytest.approx(0.75 * 2 + 0.25 * 6)
    other = EMA(nn.Linear(1, 1, bias=False), decay=0.75)
    other.load_state_dict(hook.state_dict())
    other.before_train()
    assert other.model.weight.item() == pytest.approx(3.0)


def test_ema_decay_range():
    with pytest.raises(ValueError, match=r"DECAY is 1\.0"):
        EMA(nn.Linear(1, 1), decay=1.0)


def run_best(values, mode="max", patience=0):
    saved, trainer = [], fake_trainer()
    hook = BestAndEarlyStop(1, "m/x", mode, patience, save=saved.append, stop=trainer.stopped.append)
    hook.trainer = trainer
    with EventStorage() as storage:
        for iteration, value in enumerate(values):
            trainer.iter = storage.iter = iteration
            if value is not None:
                storage.put_scalar("m/x", value, smoothing_hint=False)
            hook.after_step()
    return hook, saved, trainer


def test_best_is_saved_when_the_metric_improves():
    hook, saved, _ = run_best([0.1, 0.3, 0.2, 0.4])
    assert (hook.best, hook.best_iter) == (0.4, 3)
    assert saved == ["model_best.pth"] * 3


def test_min_mode():
    hook, saved, _ = run_best([0.3, 0.1, 0.2], mode="min")
    assert (hook.best, hook.best_iter, len(saved)) == (0.1, 1, 2)


def test_nan_and_absent_values_are_never_better():
    hook, saved, _ = run_best([float("nan"), 0.2, None, float("nan")])
    assert (hook.best, hook.best_iter, len(saved)) == (0.2, 1, 1)


def test_a_metric_that_no_evaluation_has_is_an_error():
    hook = BestAndEarlyStop(1, "m/xx", save=lambda name: None)
    hook.trainer = fake_trainer()
    with EventStorage() as storage:
        storage.put_scalar("m/x", 0.5, smoothing_hint=False)
        storage.put_scalar("total_loss", 0.5)
        with pytest.raises(ValueError, match=r"TEST\.BEST_METRIC 'm/xx' is not among .*; did you mean m/x\?"):
            hook.after_step()


def test_early_stop_after_patience_evaluations():
    _, _, trainer = run_best([0.5, 0.4, 0.3], patience=2)
    assert len(trainer.stopped) == 1
    assert "m/x has not improved on 0.5 (iteration 0) for 2 evaluations" in trainer.stopped[0]


def test_state_round_trip():
    hook, _, _ = run_best([0.5, 0.4])
    other = BestAndEarlyStop(1, "m/x")
    other.load_state_dict(hook.state_dict())
    assert (other.best, other.best_iter, other.bad_evaluations) == (0.5, 0, 1)


def test_unknown_mode():
    with pytest.raises(ValueError, match="'most'; use max or min"):
        BestAndEarlyStop(1, "m", "most")


@pytest.mark.parametrize(("period", "expected"), [(0, [4]), (2, [1, 3, 4]), (5, [4])])
def test_evaluation_is_periodic_and_after_the_last_iteration(period, expected):
    hook = PeriodicEvaluation(period, lambda: {"image": {"malignant/auc": hook.trainer.iter / 10}})
    hook.trainer = fake_trainer(max_iter=5)
    found = []
    with EventStorage() as storage:
        for iteration in range(5):
            hook.trainer.iter = storage.iter = iteration
            hook.after_step()
            value, measured_at = storage.latest().get("image/malignant/auc", (None, -1))
            if measured_at == iteration:
                found.append(iteration)
                assert value == iteration / 10
    assert found == expected


def test_events_are_written_at_every_period():
    class Writer(engines.load(ENGINE).EventWriter):
        def write(self):
            written.append(hook.trainer.iter + 1)

    written: list[int] = []
    hook = EventWriting([Writer()], more_periods=[0, 3], period=4)
    hook.trainer = fake_trainer(max_iter=10)
    for hook.trainer.iter in range(10):
        hook.after_step()
    assert written == [3, 4, 6, 8, 9, 10]


def test_medians_of_a_resumed_run_are_those_of_an_uninterrupted_one():
    values = [5.0, 1.0, 4.0, 2.0, 9.0, 3.0]

    def run(numbers, state=None):
        """Values of some iterations; the state after the last one, and what is logged then."""
        hook = EventWriting([], more_periods=[])
        with EventStorage(numbers[0]) as storage:
            hook.trainer = SimpleNamespace(storage=storage, iter=0, max_iter=100)
            if state is not None:
                hook.load_state_dict(state)
            hook.before_train()
            for storage.iter in numbers:
                storage.put_scalar("loss", values[storage.iter])
                storage.put_scalar("time", 0.5)
                storage.put_scalar("lr", 0.1, smoothing_hint=False)
            return hook.state_dict(), storage.latest_with_smoothing_hint(20)["loss"]

    state, _ = run(range(3))
    assert state == {"loss": [[5.0, 0], [1.0, 1], [4.0, 2]]}
    again, resumed = run(range(3, 6), state)
    whole, uninterrupted = run(range(6))
    assert resumed == uninterrupted == (3.5, 5)
    assert again == whole


def test_medians_look_back_twenty_iterations_only():
    hook = EventWriting([], more_periods=[])
    with EventStorage() as storage:
        hook.trainer = SimpleNamespace(storage=storage)
        for storage.iter in range(50):
            storage.put_scalar("loss", storage.iter)
        assert [iteration for _, iteration in hook.state_dict()["loss"]] == list(range(30, 50))


def test_without_training_there_is_no_state():
    hook = EventWriting([], more_periods=[])
    hook.trainer = SimpleNamespace()
    assert hook.state_dict() == {}
