"""Optimizers and learning rate schedules from cfg.SOLVER."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from fvcore.common.param_scheduler import (
    CompositeParamScheduler,
    ConstantParamScheduler,
    CosineParamScheduler,
    LinearParamScheduler,
    MultiStepParamScheduler,
    ParamScheduler,
)
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from mammo_d2.framework.embedded.config import CfgNode

logger = logging.getLogger(__name__)

NORM_MODULES = (
    nn.modules.batchnorm._BatchNorm,  # also SyncBatchNorm
    nn.modules.instancenorm._InstanceNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.LocalResponseNorm,
)


def get_default_optimizer_params(
    model: nn.Module,
    base_lr: float | None = None,
    weight_decay: float | None = None,
    weight_decay_norm: float | None = None,
    bias_lr_factor: float | None = 1.0,
    weight_decay_bias: float | None = None,
    lr_factor_func: Callable[[str], float] | None = None,
    overrides: dict[str, dict[str, float]] | None = None,
) -> list[dict[str, Any]]:
    """Parameter groups of a model's trainable parameters; each parameter is in one group, equal settings share one.

    Args:
        model: the model.
        base_lr: learning rate; None leaves it to the optimizer.
        weight_decay: weight decay; None leaves it to the optimizer.
        weight_decay_norm: weight decay of normalisation layers; None: no exception for them.
        bias_lr_factor: factor on the learning rate of parameters called "bias".
        weight_decay_bias: weight decay of parameters called "bias"; wins over ``weight_decay_norm``.
        lr_factor_func: full parameter name -> factor on its learning rate.
        overrides: last part of the parameter name -> settings; they win over everything above.

    Returns:
        Dicts with "params" and whichever of "lr" and "weight_decay" is set, in the order of the model's modules.

    Raises:
        ValueError: a factor is given without ``base_lr``, or a bias setting and an override for "bias".
    """
    overrides = dict(overrides or {})
    bias_settings: dict[str, float] = {}
    if bias_lr_factor is not None and bias_lr_factor != 1.0:
        if base_lr is None:
            raise ValueError("bias_lr_factor needs base_lr")
        bias_settings["lr"] = base_lr * bias_lr_factor
    if weight_decay_bias is not None:
        bias_settings["weight_decay"] = weight_decay_bias
    if bias_settings:
        if "bias" in overrides:
            raise ValueError("give either overrides['bias'] or bias_lr_factor / weight_decay_bias, not both")
        overrides["bias"] = bias_settings
    if lr_factor_func is not None and base_lr is None:
        raise ValueError("lr_factor_func needs base_lr")

    defaults = {k: v for k, v in (("lr", base_lr), ("weight_decay", weight_decay)) if v is not None}
    groups: dict[tuple, list[nn.Parameter]] = {}
    seen: set[nn.Parameter] = set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            settings = dict(defaults)
            if weight_decay_norm is not None and isinstance(module, NORM_MODULES):
                settings["weight_decay"] = weight_decay_norm
            if lr_factor_func is not None:
                settings["lr"] *= lr_factor_func(f"{module_name}.{name}")
            settings.update(overrides.get(name, {}))
            groups.setdefault(tuple(settings.items()), []).append(parameter)
    return [{**dict(settings), "params": parameters} for settings, parameters in groups.items()]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """SGD with the settings of cfg.SOLVER.

    Raises:
        ValueError: gradients are to be clipped, which this optimizer does not do.
    """
    solver = cfg.SOLVER
    if solver.CLIP_GRADIENTS.ENABLED:
        raise ValueError(
            "SOLVER.CLIP_GRADIENTS.ENABLED: DefaultTrainer of the embedded engine does not clip gradients; "
            "use mammo_d2's MammoTrainer, or override build_optimizer"
        )
    groups = get_default_optimizer_params(
        model,
        base_lr=solver.BASE_LR,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
    )
    return torch.optim.SGD(
        groups,
        lr=solver.BASE_LR,
        momentum=solver.MOMENTUM,
        nesterov=solver.NESTEROV,
        weight_decay=solver.WEIGHT_DECAY,
        foreach=True,
    )


class _EqualSteps(ParamScheduler):
    """gamma^k in the k-th of ``num_decays`` + 1 equal parts, also at the very end.

    fvcore's own has no value at the end, where the schedule arrives after the last iteration.
    """

    def __init__(self, gamma: float, num_decays: int):
        self._gamma = gamma
        self._num_decays = num_decays

    def __call__(self, where: float) -> float:
        part = int((where + self.WHERE_EPSILON) * (self._num_decays + 1))
        return self._gamma ** min(part, self._num_decays)


class WarmupParamScheduler(CompositeParamScheduler):
    """Another schedule with a warm-up in place of its beginning.

    The warm-up ends at the value the schedule has at that point, so a warm-up that reaches past a step ramps up to the
    decayed value.
    """

    def __init__(
        self,
        scheduler: ParamScheduler,
        warmup_factor: float,
        warmup_length: float,
        warmup_method: str = "linear",
        rescale_interval: bool = False,
    ):
        """
        Args:
            scheduler: the schedule.
            warmup_factor: first value, as a factor on the schedule's first value.
            warmup_length: length of the warm-up as a fraction of the training.
            warmup_method: "linear" or "constant".
            rescale_interval: run the whole schedule after the warm-up, rather than cutting off its beginning.
        """
        first = warmup_factor * scheduler(0.0)
        if warmup_method == "linear":
            warmup: ParamScheduler = LinearParamScheduler(first, scheduler(0.0 if rescale_interval else warmup_length))
        elif warmup_method == "constant":
            warmup = ConstantParamScheduler(first)
        else:
            raise ValueError(f"SOLVER.WARMUP_METHOD is {warmup_method!r}; use 'linear' or 'constant'")
        super().__init__(
            [warmup, scheduler],
            lengths=[warmup_length, 1 - warmup_length],
            interval_scaling=["rescaled", "rescaled" if rescale_interval else "fixed"],
        )


class LRMultiplier(LRScheduler):
    """Every group's learning rate is its initial one times a schedule of the fraction of training done."""

    def __init__(self, optimizer: Optimizer, multiplier: ParamScheduler, max_iter: int, last_iter: int = -1):
        """
        Args:
            optimizer: the optimizer.
            multiplier: fraction done, in [0, 1) -> factor.
            max_iter: iterations of the training.
            last_iter: iteration to continue after.
        """
        if not isinstance(multiplier, ParamScheduler):
            raise ValueError(f"multiplier must be a fvcore ParamScheduler, not {type(multiplier)}")
        self._multiplier = multiplier
        self._max_iter = max_iter
        super().__init__(optimizer, last_epoch=last_iter)

    def state_dict(self) -> dict[str, Any]:
        return {"base_lrs": self.base_lrs, "last_epoch": self.last_epoch}

    def get_lr(self) -> list[float]:  # type: ignore[override]  # torch allows tensors as well
        factor = self._multiplier(self.last_epoch / self._max_iter)
        return [base_lr * factor for base_lr in self.base_lrs]


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRMultiplier:
    """The schedule cfg.SOLVER.LR_SCHEDULER_NAME, with warm-up.

    Raises:
        ValueError: an unknown name or warm-up method, or BASE_LR_END is not in 0..BASE_LR.
    """
    solver = cfg.SOLVER
    schedule: ParamScheduler
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
        steps = [step for step in solver.STEPS if step <= solver.MAX_ITER]
        if len(steps) < len(solver.STEPS):
            logger.warning("SOLVER.STEPS %s: those beyond MAX_ITER %d are ignored", solver.STEPS, solver.MAX_ITER)
        values = [solver.GAMMA**k for k in range(len(steps) + 1)]
        schedule = MultiStepParamScheduler(values, milestones=steps, num_updates=solver.MAX_ITER)
    elif solver.LR_SCHEDULER_NAME == "WarmupCosineLR":
        end = solver.BASE_LR_END / solver.BASE_LR
        if not 0 <= end <= 1:
            raise ValueError(f"SOLVER.BASE_LR_END is {solver.BASE_LR_END}; it must be in 0..BASE_LR ({solver.BASE_LR})")
        schedule = CosineParamScheduler(1, end)
    elif solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR":
        schedule = _EqualSteps(solver.GAMMA, solver.NUM_DECAYS)
    else:
        raise ValueError(
            f"SOLVER.LR_SCHEDULER_NAME is {solver.LR_SCHEDULER_NAME!r}; "
            f"use WarmupMultiStepLR, WarmupCosineLR or WarmupStepWithFixedGammaLR"
        )
    warmed = WarmupParamScheduler(
        schedule,
        solver.WARMUP_FACTOR,
        min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0),
        solver.WARMUP_METHOD,
        solver.RESCALE_INTERVAL,
    )
    return LRMultiplier(optimizer, warmed, max_iter=solver.MAX_ITER)
