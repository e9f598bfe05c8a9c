from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mammo_d2.engine.validation_loss import ValidationLoss
from mammo_d2.framework import EventStorage, get_event_storage


class Model(nn.Module):
    """Two losses that depend on the batch; logs to the event storage as heads do."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(1)
        self.dropout = nn.Dropout(0.5).eval()

    def forward(self, batch):
        assert self.training
        get_event_storage().put_scalar("head/n", 1.0)
        self.norm(torch.tensor([[1.0], [3.0]]))
        return {"loss_a": torch.tensor(batch[0]), "loss_b": torch.tensor(1.0)}


def test_means_over_batches_are_logged_and_the_model_is_untouched():
    model = Model()
    before = model.norm.running_mean.clone()
    hook = ValidationLoss(2, ["a", "b"], {"a": [[2.0], [4.0]], "b": [[9.0]]}.get)
    hook.trainer = SimpleNamespace(iter=0, max_iter=100, model=model)
    with EventStorage() as storage:
        hook.after_step()
        assert "validation/loss_a" not in storage.latest()
        hook.trainer.iter = 1
        hook.after_step()
        latest = storage.latest()
    assert latest["validation/loss_a"][0] == pytest.approx(5.0)
    assert latest["validation/total_loss"][0] == pytest.approx(6.0)
    assert "head/n" not in latest
    assert torch.equal(model.norm.running_mean, before)
    assert model.norm.training
    assert not model.dropout.training
