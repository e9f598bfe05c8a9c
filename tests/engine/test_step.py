import math

import pytest
import torch
from torch import nn

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.engine.step import NonFiniteLossError, StepTrainer, amp_dtype
from mammo_d2.framework import EventStorage, get_cfg


class Quadratic(nn.Module):
    """loss = mean over the batch of (w − target)²."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(1))
        self.seen_dtype = None

    def forward(self, batch):
        targets = torch.stack([record["image"] for record in batch])
        self.seen_dtype = torch.nn.functional.linear(targets[:, None], self.w[None]).dtype
        return {"loss_fit": ((self.w - targets) ** 2).mean()}


def make_cfg(tmp_path, *overrides):
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.OUTPUT_DIR = str(tmp_path)
    cfg.merge_from_list(list(overrides))
    return cfg


def make_batch(*targets):
    return [{"image": torch.tensor(t), "image_id": i, "file_name": f"{i}.png"} for i, t in enumerate(targets)]


def one_step(cfg, batches, lr=0.5):
    model = Quadratic()
    trainer = StepTrainer(cfg, model, batches, torch.optim.SGD(model.parameters(), lr=lr))
    trainer.iter = 0
    with EventStorage() as storage:
        trainer.run_step()
    return model, storage, trainer


def test_accumulation_equals_the_joined_batch(tmp_path):
    joined, _, _ = one_step(make_cfg(tmp_path), [make_batch(1.0, 2.0, 3.0, 6.0)])
    parts, storage, _ = one_step(
        make_cfg(tmp_path, "SOLVER.ACCUMULATE", 2), [make_batch(1.0, 2.0), make_batch(3.0, 6.0)]
    )
    # gradient −2·mean(target) = −6, step 0.5·6
    assert joined.w.item() == pytest.approx(3.0)
    assert parts.w.item() == pytest.approx(3.0)
    assert storage.latest()["total_loss"][0] == pytest.approx((1 + 4 + 9 + 36) / 4)


def test_bfloat16_on_cpu_keeps_float32_weights(tmp_path):
    cfg = make_cfg(tmp_path, "SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16")
    model, _, _ = one_step(cfg, [make_batch(2.0)])
    assert model.seen_dtype == torch.bfloat16
    assert model.w.dtype == torch.float32
    assert model.w.item() == pytest.approx(2.0, rel=1e-2)


def test_non_finite_loss_names_the_images_and_dumps_the_step(tmp_path):
    cfg = make_cfg(tmp_path)
    with pytest.raises(NonFiniteLossError, match=r"iteration 0.*1: 1\.png") as error:
        one_step(cfg, [make_batch(1.0, math.inf)])
    dump = torch.load(tmp_path / "nonfinite_iter0000000_rank0.pth", weights_only=True)
    assert str(tmp_path / "nonfinite_iter0000000_rank0.pth") in str(error.value)
    assert dump["images"] == ["0: 0.png", "1: 1.png"]
    assert dump["model"]["w"].item() == 0.0
    assert dump["inputs"][1].item() == math.inf


def test_non_finite_step_leaves_the_weights(tmp_path):
    model = Quadratic()
    trainer = StepTrainer(
        make_cfg(tmp_path), model, [make_batch(math.nan)], torch.optim.SGD(model.parameters(), lr=1.0)
    )
    trainer.iter = 0
    with EventStorage(), pytest.raises(NonFiniteLossError):
        trainer.run_step()
    assert model.w.item() == 0.0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("SOLVER.AMP.DTYPE", "float64"), "float64.*use one of float16, bfloat16"),
        (("SOLVER.AMP.DTYPE", "float16"), "float16 needs a GPU"),
        (("SOLVER.ACCUMULATE", 0), "ACCUMULATE is 0"),
    ],
)
def test_bad_settings(tmp_path, overrides, message):
    cfg = make_cfg(tmp_path, "SOLVER.AMP.ENABLED", True, *overrides)
    with pytest.raises(ValueError, match=message):
        one_step(cfg, [make_batch(1.0)])


def test_amp_off_is_float32(tmp_path):
    assert amp_dtype(make_cfg(tmp_path)) is None


def test_state_round_trip(tmp_path):
    _, _, trainer = one_step(make_cfg(tmp_path), [make_batch(1.0)])
    model = Quadratic()
    other = StepTrainer(make_cfg(tmp_path), model, [], torch.optim.SGD(model.parameters(), lr=9.0))
    other.load_state_dict(trainer.state_dict())
    assert other.optimizer.param_groups[0]["lr"] == 0.5
