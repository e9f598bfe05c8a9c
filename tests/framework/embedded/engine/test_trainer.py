"""Trainers of the engine in use; what they compute is in test_job_parity.py."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mammo_d2.framework import EventStorage, SimpleTrainer, hooks
from mammo_d2.framework.embedded.engine.trainer import AMPTrainer as EmbeddedAMPTrainer
from mammo_d2.framework.embedded.engine.trainer import SimpleTrainer as EmbeddedSimpleTrainer
from tests.fake_accelerator import accelerator
from tests.framework import job_cases

EMBEDDED = job_cases.load(job_cases.EMBEDDED)
ENGINES = [job_cases.EMBEDDED, pytest.param(job_cases.DETECTRON2, marks=pytest.mark.detectron2)]


def make(folder: Path, engine_name: str = job_cases.EMBEDDED, **solver: Any) -> Any:
    engine = job_cases.load(engine_name)
    return job_cases.toy_trainer_class(engine)(job_cases.toy_config(engine, folder, **solver))


@pytest.mark.parametrize("writer", ENGINES)
@pytest.mark.parametrize("reader", ENGINES)
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


def test_expected_results_are_verified(tmp_path: Path) -> None:
    trainer = make(tmp_path)
    trainer.cfg.TEST.EXPECTED_RESULTS = [["toy", "mean", 1.381, 0.01]]
    assert trainer.train()["toy"]["count"] == 7
    trainer = make(tmp_path)
    trainer.cfg.TEST.EXPECTED_RESULTS = [["toy", "mean", 2.0, 0.01]]
    with pytest.raises(SystemExit):
        trainer.train()


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
@pytest.mark.parametrize("zero_first", [False, True])
def test_step_by_hand(as_dict: bool, zero_first: bool) -> None:
    model = OneLoss(as_dict)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = SimpleTrainer(model, [2.0, 4.0], optimizer, zero_grad_before_forward=zero_first)
    scalars = run(trainer, 2)
    factor = 1.5 if as_dict else 1.0
    # gradients are 2 and 4 times the factor, not summed up over the steps
    assert model.w.item() == pytest.approx(1 - 0.1 * 6 * factor)
    second_loss = (1 - 0.2 * factor) * 4
    assert scalars["total_loss"] == pytest.approx(second_loss * factor)
    assert ("loss_b" in scalars) == as_dict


def test_metrics_are_gathered_every_so_often() -> None:
    model = OneLoss()
    trainer = SimpleTrainer(model, [1.0] * 5, torch.optim.SGD(model.parameters(), lr=0.1), gather_metric_period=2)
    run(trainer, 5)
    assert [iteration for _, iteration in trainer.storage.history("total_loss").values()] == [1, 3]


def test_metrics_from_another_thread() -> None:
    model = OneLoss()
    trainer = EmbeddedSimpleTrainer(
        model, [1.0, 2.0, 3.0], torch.optim.SGD(model.parameters(), lr=0.0), async_write_metrics=True
    )
    run(trainer, 3)
    assert trainer.storage.history("total_loss").values() == [(1.0, 0), (2.0, 1), (3.0, 2)]


@pytest.mark.parametrize("in_thread", [False, True])
def test_loss_that_is_not_finite_stops_the_training(in_thread: bool) -> None:
    model = OneLoss(as_dict=True)
    trainer = EmbeddedSimpleTrainer(
        model, [1.0, float("inf")], torch.optim.SGD(model.parameters(), lr=0.1), async_write_metrics=in_thread
    )
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


def test_gradients_are_there_after_backward() -> None:
    model = OneLoss()
    trainer = SimpleTrainer(model, [3.0], torch.optim.SGD(model.parameters(), lr=0.1))
    seen: list[tuple[float, float]] = []

    class Look(hooks.HookBase):
        def after_backward(self) -> None:
            seen.append((model.w.item(), model.w.grad.item()))

    trainer.register_hooks([Look()])
    run(trainer)
    assert seen == [(1.0, 3.0)]


class Product(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1, bias=False)
        nn.init.ones_(self.layer.weight)
        self.dtypes: list[torch.dtype] = []

    def forward(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.layer(batch)
        self.dtypes.append(y.dtype)
        # A quarter: the first scale, 2^16, is beyond float16, and the step with a gradient of 1 would be left out.
        return {"loss": y.float().sum() / 4}


def test_mixed_precision_on_a_cpu() -> None:
    model = Product()
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    trainer = EmbeddedAMPTrainer(model, [torch.ones(1, 1)], optimizer, precision=torch.bfloat16)
    run(trainer)
    assert model.dtypes == [torch.bfloat16]
    assert model.layer.weight.dtype == torch.float32
    assert model.layer.weight.item() == 0.5
    trainer.load_state_dict(trainer.state_dict())
    with pytest.raises(ValueError, match="float16 needs a GPU; use bfloat16"):
        EmbeddedAMPTrainer(model, [], optimizer)


PRECISIONS = [(torch.float16, True), (torch.bfloat16, False)]


@pytest.mark.parametrize(("precision", "scales"), PRECISIONS)
def test_mixed_precision_on_a_pretended_gpu(precision: torch.dtype, scales: bool) -> None:
    with accelerator():
        check_mixed_precision_on_a_gpu(precision, scales)


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "scales"), PRECISIONS)
def test_mixed_precision_on_a_gpu(precision: torch.dtype, scales: bool) -> None:
    check_mixed_precision_on_a_gpu(precision, scales)


def check_mixed_precision_on_a_gpu(precision: torch.dtype, scales: bool) -> None:
    model = Product().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    trainer = EmbeddedAMPTrainer(
        model, [torch.ones(1, 1, device="cuda")] * 2, optimizer, precision=precision, log_grad_scaler=True
    )
    scalars = run(trainer, 1)
    assert model.dtypes == [precision]
    assert model.layer.weight.item() == 0.5
    assert (scalars["[metric]grad_scaler"] > 1) is scales
    assert ("scale" in trainer.state_dict()["grad_scaler"]) is scales
