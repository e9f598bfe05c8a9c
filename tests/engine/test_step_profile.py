"""The profile of a training step: what the parts add up to, and that the training is the one that runs otherwise."""

import argparse
import time

import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.engine import step_profile
from mammo_d2.engine.step import StepTrainer
from mammo_d2.engine.step_profile import STEP_PARTS, PartClock, profile_training
from mammo_d2.engine.trainer import MammoTrainer
from tests.data.toy_dataset import write_dataset
from tests.engine.toy_training import SETTINGS, run


@pytest.fixture
def seconds(monkeypatch):
    """Both clocks stand still until the test moves them."""
    now = argparse.Namespace(cpu=5.0, wall=50.0)
    monkeypatch.setattr(step_profile.time, "process_time", lambda: now.cpu)
    monkeypatch.setattr(step_profile.time, "perf_counter", lambda: now.wall)

    def move(cpu, wall):
        now.cpu += cpu
        now.wall += wall

    return move


def test_the_outer_clock_stands_while_an_inner_part_runs(seconds):
    clock = PartClock()
    with clock.part("step"):
        seconds(1, 10)
        with clock.part("forward"):
            seconds(2, 20)
            with clock.part("step"):
                seconds(4, 40)
        seconds(8, 80)
    seconds(100, 100)
    assert clock.cpu == {"step": 13, "forward": 2}
    assert clock.wall == {"step": 130, "forward": 20}


def test_a_part_that_fails_is_counted_and_closed(seconds):
    clock = PartClock()

    def fail():
        seconds(1, 1)
        raise RuntimeError("no memory")

    owner = argparse.Namespace(fail=fail)
    clock.wrap(owner, "fail", "forward")
    with pytest.raises(RuntimeError, match="no memory"):
        owner.fail()
    seconds(5, 5)
    assert clock.cpu == {"forward": 1}


def test_a_wrapped_method_returns_what_it_did(seconds):
    class Model:
        def forward(self, x, *, y):
            seconds(3, 3)
            return x + y

    model, clock = Model(), PartClock()
    clock.wrap(model, "forward", "forward")
    assert model.forward(1, y=2) == 3
    assert clock.cpu == {"forward": 3}


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """The figures of two steps after one, of the toy training, and the CPU seconds that all of it took."""
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder, positives=3, negatives=4)
    settings = {**SETTINGS, "DATASETS.ROOT": str(folder), "OUTPUT_DIR": str(folder / "profile")}
    settings |= {"DATALOADER.CACHE_MB": "10", "SOLVER.ACCUMULATE": "2", "TEST.EVAL_PERIOD": "1"}
    cfg = load_config("", [item for pair in settings.items() for item in pair])
    register_datasets(cfg)
    start = time.process_time()
    figures = profile_training(MammoTrainer, cfg, steps=2, warmup=1, operators=5)
    return folder, figures, time.process_time() - start


def test_the_parts_are_those_of_the_step(profiled):
    _, figures, spent = profiled
    step, parts = figures["step"], figures["parts"]
    assert tuple(parts) == STEP_PARTS
    assert sum(part["cpu_s"] for part in parts.values()) == pytest.approx(step["cpu_s"])
    assert sum(part["wall_s"] for part in parts.values()) == pytest.approx(step["wall_s"])
    assert sum(part["share"] for part in parts.values()) == pytest.approx(1)
    assert all(part["cpu_s"] > 0 for part in parts.values())
    assert parts["backward"]["cpu_s"] > parts["transfer and normalisation"]["cpu_s"]
    assert 0 < 2 * step["cpu_s"] < spent
    assert step["images"] == 4  # two batches of two
    assert step["images_per_s"] == pytest.approx(4 / step["wall_s"])


def test_the_functions_of_the_loader(profiled):
    loader = profiled[1]["loader"]
    assert list(loader["functions"]) == [
        "reading and decoding", "grey levels", "resizing", "augmentation", "tensors", "other",
    ]  # fmt: skip
    assert sum(loader["functions"].values()) == pytest.approx(loader["first_cpu_s"])
    assert loader["again_cpu_s"] > 0


def test_the_longest_operators_come_first(profiled):
    operators = profiled[1]["operators"]
    assert len(operators) == 5
    assert [o["self_s"] for o in operators] == sorted((o["self_s"] for o in operators), reverse=True)
    assert 0 < sum(o["share"] for o in operators) <= 1
    assert all(o["calls"] >= 1 for o in operators)


def test_the_steps_are_those_of_the_training_and_nothing_is_evaluated_or_saved(profiled, monkeypatch):
    folder, figures, _ = profiled
    losses, write = [], StepTrainer._write_metrics

    def note(self, values, data_time):
        losses.append(float(sum(values.values())))
        write(self, values, data_time)

    monkeypatch.setattr(StepTrainer, "_write_metrics", note)
    run(folder, "DATALOADER.CACHE_MB", "10", "SOLVER.ACCUMULATE", "2", "DATASETS.TEST", "[]", "SOLVER.MAX_ITER", "3",
        "OUTPUT_DIR", str(folder / "run"))  # fmt: skip
    assert len(losses) == 3
    assert figures["loss"] == pytest.approx(losses[-1], rel=1e-6)
    assert not list((folder / "profile").glob("*.pth"))
    assert not (folder / "profile" / "inference").exists()


@pytest.mark.parametrize(("steps", "warmup"), [(0, 1), (1, -1)])
def test_no_step_is_an_error(steps, warmup):
    with pytest.raises(ValueError, match=f"at least 1 step and no negative warm-up, not {steps} and {warmup}"):
        profile_training(MammoTrainer, None, steps, warmup)
