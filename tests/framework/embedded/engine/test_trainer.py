"""Trainers of the engine in use; what they compute is in test_job_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mammo_d2.framework import EventStorage, SimpleTrainer
from mammo_d2.framework.embedded.engine.trainer import SimpleTrainer as EmbeddedSimpleTrainer
from tests.framework import engines, job_cases

EMBEDDED = engines.load(engines.EMBEDDED)


def make(folder: Path, engine_name: str = engines.EMBEDDED, **solver: Any) -> Any:
    engine = engines.load(engine_name)
    return job_cases.toy_trainer_class(engine)(job_cases.toy_config(engine, folder, **solver))


@pytest.mark.parametrize("writer", engines.BOTH)
@pytest.mark.parametrize("reader", engines.BOTH)
def test_a_checkpoint_of_one_engine_resumes_on_the_other(tmp_path: Path, writer: str, reader: str) -> None:
    make(tmp_path, writer, MAX_ITER=5).train()
    trainer = make(tmp_path, reader)
    trainer.resume_or_load(resume=True)
    assert trainer.start_iter == 5
    trainer.train()
    expected = job_cases.golden()["resumed_training"]["from_detectron2"]
    assert trainer.model.line.weight.flatten().tolist() == pytest.approx(expected["weight"], abs=1e-6)


def test_state_of_optimizer_and_schedule_come_back(tmp_path: Path) -> None:
    first = make(tmp_path, MAX_ITER=5)
    first.train()
    second = make(tmp_path)
    second.resume_or_load(resume=True)
    assert second.scheduler.last_epoch == 5
    before, after = first.optimizer.state_dict()["state"], second.optimizer.state_dict()["state"]
    assert all(torch.equal(before[i]["momentum_buffer"], after[i]["momentum_buffer"]) for i in before)


def test_without_resume_only_the_weights_are_loaded(tmp_path: Path) -> None:
    first = make(tmp_path / "first", MAX_ITER=5)
    first.train()
    second = make(tmp_path / "second")
    second.cfg.MODEL.WEIGHTS = str(tmp_path / "first" / "model_final.pth")
    second.resume_or_load(resume=True)  # there is nothing to resume in this folder
    assert second.start_iter == 0
    assert second.scheduler.last_epoch == 0
    assert torch.equal(first.model.line.weight, second.model.line.weight)
    assert second.optimizer.state_dict()["state"] == {}


def test_metrics_go_on_in_the_same_file(tmp_path: Path) -> None:
    make(tmp_path, MAX_ITER=5).train()
    trainer = make(tmp_path)
    trainer.resume_or_load(resume=True)
    trainer.train()
    iterations = [json.loads(line)["iteration"] for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert iterations == [4, 5, 9, 11, 12]


def test_training_without_an_evaluator(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    trainer_class = job_cases.toy_trainer_class(EMBEDDED)
    trainer_class.build_evaluator = EMBEDDED.DefaultTrainer.build_evaluator
    trainer_class(job_cases.toy_config(EMBEDDED, tmp_path, MAX_ITER=2)).train()
    assert "No evaluator for toy" in capsys.readouterr().out
    assert (tmp_path / "model_final.pth").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("SOLVER.AMP.ENABLED", True),
        ("TEST.PRECISE_BN.ENABLED", True),
        ("TEST.EXPECTED_RESULTS", [["toy", "mean", 1.381, 0.01]]),
    ],
)
def test_what_it_does_not_do_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    cfg = job_cases.toy_config(EMBEDDED, tmp_path)
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=f"{key} is .*, but DefaultTrainer of the embedded engine does not do that"):
        job_cases.toy_trainer_class(EMBEDDED)(cfg)


def test_loaders_have_to_be_given(tmp_path: Path) -> None:
    cfg = job_cases.toy_config(EMBEDDED, tmp_path)
    with pytest.raises(NotImplementedError, match=r"mammo_d2\.build_train_loader"):
        EMBEDDED.DefaultTrainer.build_train_loader(cfg)
    with pytest.raises(NotImplementedError, match=r"mammo_d2\.build_test_loader"):
        EMBEDDED.DefaultTrainer.build_test_loader(cfg, "toy")


def test_results_of_several_data_sets_have_their_names(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    trainer.cfg.DATASETS.TEST = ("one", "two")
    results = trainer.test(trainer.cfg, trainer.model)
    assert list(results) == ["one", "two"]
    with pytest.raises(AssertionError, match="1 evaluators for the 2 data sets"):
        trainer.test(trainer.cfg, trainer.model, [trainer.build_evaluator(trainer.cfg, "one")])


def test_config_follows_the_number_of_processes() -> None:
    cfg = EMBEDDED.get_cfg()
    scale = EMBEDDED.DefaultTrainer.auto_scale_workers
    assert scale(cfg, 4) is cfg
    solver = cfg.SOLVER
    solver.REFERENCE_WORLD_SIZE, solver.IMS_PER_BATCH, solver.BASE_LR = 8, 16, 0.1
    solver.MAX_ITER, solver.STEPS, solver.WARMUP_ITERS, solver.CHECKPOINT_PERIOD = 5000, (4000,), 100, 1000
    cfg.TEST.EVAL_PERIOD = 500
    cfg.freeze()
    assert scale(cfg, 8) is cfg
    scaled = scale(cfg, 16)
    assert scaled.is_frozen()
    new = scaled.SOLVER
    assert (new.IMS_PER_BATCH, new.BASE_LR, new.MAX_ITER, new.STEPS) == (32, 0.2, 2500, (2000,))
    assert (new.WARMUP_ITERS, new.CHECKPOINT_PERIOD, scaled.TEST.EVAL_PERIOD) == (50, 500, 250)
    assert (new.REFERENCE_WORLD_SIZE, solver.MAX_ITER) == (16, 5000)
    bad = cfg.clone()
    bad.defrost()
    bad.SOLVER.IMS_PER_BATCH = 12
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH 12 is not a multiple of SOLVER\.REFERENCE_WORLD_SIZE 8"):
        scale(bad, 16)


class OneLoss(nn.Module):
    """The loss is the batch times w; a batch of None is a model that was left in evaluation mode."""

    def __init__(self, as_dict: bool = False):
        super().__init__()
        self.w = nn.Parameter(torch.ones(()))
        self.as_dict = as_dict

    def forward(self, batch: float) -> Any:
        loss = self.w * batch
        return {"loss_a": loss, "loss_b": 0.5 * loss} if self.as_dict else loss


def run(trainer: Any, steps: int = 1) -> Any:
    trainer.train(0, steps)
    return {name: value for name, (value, _) in trainer.storage.latest().items()}


@pytest.mark.parametrize("as_dict", [False, True])
def test_step_by_hand(as_dict: bool) -> None:
    model = OneLoss(as_dict)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = SimpleTrainer(model, [2.0, 4.0], optimizer)
    scalars = run(trainer, 2)
    factor = 1.5 if as_dict else 1.0
    # gradients are 2 and 4 times the factor, not summed up over the steps
    assert model.w.item() == pytest.approx(1 - 0.1 * 6 * factor)
    second_loss = (1 - 0.2 * factor) * 4
    assert scalars["total_loss"] == pytest.approx(second_loss * factor)
    assert ("loss_b" in scalars) == as_dict


def test_loss_that_is_not_finite_stops_the_training() -> None:
    model = OneLoss(as_dict=True)
    trainer = EmbeddedSimpleTrainer(model, [1.0, float("inf")], torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(FloatingPointError, match=r"infinite or NaN at iteration 1: \{'loss_a': inf"):
        run(trainer, 2)


def test_model_in_evaluation_mode_is_noticed() -> None:
    model = OneLoss()
    trainer = SimpleTrainer(model, [1.0], torch.optim.SGD(model.parameters(), lr=0.1))
    model.eval()
    with pytest.raises(AssertionError, match="eval"):
        run(trainer)


def test_loader_can_be_replaced() -> None:
    model = OneLoss()
    trainer = SimpleTrainer(model, [1.0, 1.0], torch.optim.SGD(model.parameters(), lr=0.1))
    with EventStorage():
        trainer.run_step()
        trainer.reset_data_loader(lambda: [5.0])
        trainer.run_step()
    assert model.w.item() == pytest.approx(1 - 0.1 - 0.5)
