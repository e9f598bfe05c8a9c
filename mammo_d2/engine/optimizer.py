"""Optimizers by config: SGD, Adam and AdamW on detectron2's parameter groups, and gradient clipping."""

import torch
from torch import nn

from mammo_d2.framework import CfgNode, get_default_optimizer_params

OPTIMIZERS = ("SGD", "Adam", "AdamW")
CLIP_TYPES = ("value", "norm", "full_model")


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer ``SOLVER.OPTIMIZER`` over the trainable parameters of ``model``.

    Learning rate and weight decay of normalisation layers and biases follow detectron2's keys (``WEIGHT_DECAY_NORM``,
    ``BIAS_LR_FACTOR``, ``WEIGHT_DECAY_BIAS``). Adam uses coupled L2 decay, AdamW decoupled.

    Raises:
        ValueError: an unknown optimizer name, or a model without trainable parameters.
    """
    params = get_default_optimizer_params(
        model,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
    )
    if not params:
        raise ValueError("the model has no trainable parameter: lower MODEL.BACKBONE.FREEZE_AT")
    # fused=None lets torch choose; False would turn off its foreach implementation as well.
    common = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY, "fused": cfg.SOLVER.FUSED or None}
    name = cfg.SOLVER.OPTIMIZER
    if name == "SGD":
        return torch.optim.SGD(params, momentum=cfg.SOLVER.MOMENTUM, nesterov=cfg.SOLVER.NESTEROV, **common)
    if name == "Adam":
        return torch.optim.Adam(params, **common)
    if name == "AdamW":
        return torch.optim.AdamW(params, **common)
    raise ValueError(f"SOLVER.OPTIMIZER is {name!r}; use one of {', '.join(OPTIMIZERS)}")


def clip_gradients(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> None:
    """Clip the gradients in place as ``SOLVER.CLIP_GRADIENTS`` says; nothing when it is not enabled.

    "value" clamps each entry, "norm" scales each parameter's gradient by its own norm (detectron2's meaning),
    "full_model" by the norm over all parameters.

    Raises:
        ValueError: an unknown ``CLIP_TYPE``.
    """
    clip = cfg.SOLVER.CLIP_GRADIENTS
    if not clip.ENABLED:
        return
    params = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    if clip.CLIP_TYPE == "value":
        nn.utils.clip_grad_value_(params, clip.CLIP_VALUE)
    elif clip.CLIP_TYPE == "norm":
        for p in params:
            nn.utils.clip_grad_norm_(p, clip.CLIP_VALUE, clip.NORM_TYPE)
    elif clip.CLIP_TYPE == "full_model":
        nn.utils.clip_grad_norm_(params, clip.CLIP_VALUE, clip.NORM_TYPE)
    else:
        raise ValueError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip.CLIP_TYPE!r}; use one of {', '.join(CLIP_TYPES)}")
