"""Parameter groups, optimizer and schedules; the numbers of the real engine are in test_job_parity.py."""

import pytest
import torch
from torch import nn

from mammo_d2.framework.embedded import config
from mammo_d2.framework.embedded.engine import solver
from tests.framework import engines, job_cases

EMBEDDED = engines.load(engines.EMBEDDED)


def rates(case: str) -> list[float]:
    return job_cases.learning_rates(EMBEDDED, case)


def test_multistep_by_hand() -> None:
    # factor 0.001 to 1 over 5 iterations; steps by 0.1 at 12 and 16
    expected = [0.02 * (0.001 + 0.999 * i / 5) for i in range(5)] + [0.02] * 7 + [0.002] * 4 + [0.0002] * 4
    assert rates("multistep") == pytest.approx(expected)


def test_cosine_by_hand() -> None:
    middle = rates("cosine")[10]
    assert middle == pytest.approx((0.02 + 0.002) / 2)


def test_schedules_have_a_value_after_the_last_iteration() -> None:
    # the hook steps the schedule once more after the last iteration
    for case, keys in job_cases.SCHEDULES.items():
        cfg = job_cases.solver_config(EMBEDDED, keys)
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
        scheduler = solver.build_lr_scheduler(cfg, optimizer)
        for _ in range(cfg.SOLVER.MAX_ITER):
            optimizer.step()
            scheduler.step()
        assert optimizer.param_groups[0]["lr"] <= cfg.SOLVER.BASE_LR, case


def test_groups_keep_their_ratio() -> None:
    cfg = job_cases.solver_config(EMBEDDED, job_cases.SCHEDULES["multistep"])
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.02, 0.2)]
    optimizer = torch.optim.SGD(groups, lr=0.02)
    scheduler = solver.build_lr_scheduler(cfg, optimizer)
    for _ in range(13):
        optimizer.step()
        scheduler.step()
    assert scheduler.get_last_lr() == pytest.approx([0.002, 0.02])


def test_state_of_the_schedule_is_plain_and_restores_it() -> None:
    cfg = job_cases.solver_config(EMBEDDED, job_cases.SCHEDULES["multistep"])

    def make() -> tuple[torch.optim.Optimizer, solver.LRMultiplier]:
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.02)
        return optimizer, solver.build_lr_scheduler(cfg, optimizer)

    optimizer, scheduler = make()
    for _ in range(3):
        optimizer.step()
        scheduler.step()
    assert scheduler.state_dict() == {"base_lrs": [0.02], "last_epoch": 3}
    other_optimizer, other = make()
    other.load_state_dict(scheduler.state_dict())
    other_optimizer.step()
    other.step()
    assert other_optimizer.param_groups[0]["lr"] == pytest.approx(0.02 * (0.001 + 0.999 * 4 / 5))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"LR_SCHEDULER_NAME": "Step"}, "LR_SCHEDULER_NAME is 'Step'"),
        ({"WARMUP_METHOD": "exp"}, "WARMUP_METHOD is 'exp'"),
        ({"LR_SCHEDULER_NAME": "WarmupCosineLR", "BASE_LR": 0.1, "BASE_LR_END": 0.2}, "BASE_LR_END is 0.2"),
        ({"CLIP_GRADIENTS.ENABLED": True}, "CLIP_GRADIENTS.ENABLED: .* use mammo_d2's MammoTrainer"),
    ],
)
def test_wrong_keys_are_named(keys: dict, message: str) -> None:
    cfg = job_cases.solver_config(EMBEDDED, keys)
    model = nn.Linear(1, 1)
    with pytest.raises(ValueError, match=message):
        solver.build_lr_scheduler(cfg, solver.build_optimizer(cfg, model))


@pytest.mark.parametrize(
    "arguments",
    [
        {"bias_lr_factor": 2.0},
        {"lr_factor_func": lambda name: 0.5},
        {"weight_decay_bias": 0.0, "overrides": {"bias": {"weight_decay": 0.1}}},
    ],
)
def test_settings_that_contradict_each_other(arguments: dict) -> None:
    with pytest.raises(ValueError):
        solver.get_default_optimizer_params(nn.Linear(1, 1), **arguments)


def test_rate_by_parameter_name() -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1))
    groups = solver.get_default_optimizer_params(
        model, base_lr=0.1, lr_factor_func=lambda name: 0.5 if name.startswith("0.") else 1.0
    )
    assert [(group["lr"], len(group["params"])) for group in groups] == [(0.05, 2), (0.1, 2)]


def test_overrides_of_the_caller_are_left_alone() -> None:
    overrides = {"weight": {"lr": 0.2}}
    solver.get_default_optimizer_params(nn.Linear(1, 1), base_lr=0.1, weight_decay_bias=0.0, overrides=overrides)
    assert overrides == {"weight": {"lr": 0.2}}


def test_optimizer_of_the_config() -> None:
    cfg = config.get_cfg()
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    optimizer = solver.build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.SGD)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [cfg.SOLVER.WEIGHT_DECAY, 0.0]
    assert {group["momentum"] for group in optimizer.param_groups} == {0.9}
