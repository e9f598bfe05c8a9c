import pytest
import torch
from torch import nn

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.engine.optimizer import build_optimizer, clip_gradients
from mammo_d2.framework import get_cfg


def make_cfg(*overrides):
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.merge_from_list(list(overrides))
    return cfg


@pytest.mark.parametrize(
    ("name", "kind"), [("SGD", torch.optim.SGD), ("Adam", torch.optim.Adam), ("AdamW", torch.optim.AdamW)]
)
def test_optimizer_by_name(name, kind):
    optimizer = build_optimizer(make_cfg("SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.25), nn.Linear(2, 2))
    assert type(optimizer) is kind
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}


def test_norm_layers_have_their_own_weight_decay():
    cfg = make_cfg("SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.WEIGHT_DECAY_NORM", 0.0)
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    decay = {id(p): g["weight_decay"] for g in build_optimizer(cfg, model).param_groups for p in g["params"]}
    assert decay[id(model[0].weight)] == 0.1
    assert decay[id(model[1].weight)] == 0.0


def test_unknown_optimizer():
    with pytest.raises(ValueError, match=r"SOLVER\.OPTIMIZER is 'Lion'; use one of SGD, Adam, AdamW"):
        build_optimizer(make_cfg("SOLVER.OPTIMIZER", "Lion"), nn.Linear(1, 1))


def test_frozen_model():
    with pytest.raises(ValueError, match="no trainable parameter"):
        build_optimizer(make_cfg(), nn.Linear(1, 1).requires_grad_(False))


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("value", ([1.0, 1.0], [0.5])),
        ("norm", ([0.6, 0.8], [0.5])),  # norm 5 → 1; norm 0.5 stays
        ("full_model", ([3 / 25.25**0.5, 4 / 25.25**0.5], [0.5 / 25.25**0.5])),
    ],
)
def test_clipping(kind, expected):
    cfg = make_cfg("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", kind)
    params = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
    params[0].grad, params[1].grad = torch.tensor([3.0, 4.0]), torch.tensor([0.5])
    clip_gradients(cfg, torch.optim.SGD(params, lr=1.0))
    for parameter, values in zip(params, expected, strict=True):
        assert parameter.grad.tolist() == pytest.approx(values, rel=1e-4)


def test_clipping_is_off_by_default():
    parameter = nn.Parameter(torch.zeros(1))
    parameter.grad = torch.tensor([100.0])
    clip_gradients(make_cfg(), torch.optim.SGD([parameter], lr=1.0))
    assert parameter.grad.item() == 100.0
