"""Training length in epochs: SOLVER.EPOCHS and its companions, turned into the iterations that the engines count.

An epoch is one pass of the training sampler: of ``ExamSampler`` all exams with a finding and as many others. An
iteration takes SOLVER.IMS_PER_BATCH times SOLVER.ACCUMULATE images, over all processes, so the iterations of an epoch
do not depend on their number. They are rounded up to whole ones; periods and milestones are multiples of them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

from mammo_d2.config.named_configs import ConfigError
from mammo_d2.framework import CfgNode, get_cfg

#: Key in epochs → the key in iterations that follows from it. Those after the first count with SOLVER.EPOCHS only.
IN_ITERATIONS = {
    "SOLVER.EPOCHS": "SOLVER.MAX_ITER",
    "SOLVER.STEP_EPOCHS": "SOLVER.STEPS",
    "SOLVER.WARMUP_EPOCHS": "SOLVER.WARMUP_ITERS",
    "SOLVER.CHECKPOINT_EPOCHS": "SOLVER.CHECKPOINT_PERIOD",
    "TEST.EVAL_EPOCHS": "TEST.EVAL_PERIOD",
    "TEST.LOSS_EPOCHS": "TEST.LOSS_PERIOD",
}


def check_epochs(cfg: CfgNode) -> None:
    """Check the keys in epochs by themselves.

    Raises:
        ConfigError: a negative number.
    """
    for key in IN_ITERATIONS:
        value = _get(cfg, key)
        if any(epochs < 0 for epochs in (value if isinstance(value, Sequence) else [value])):
            raise ConfigError(f"{key} is {value}; epochs must not be negative (0: count iterations)")


def resolve_epochs(cfg: CfgNode, images_per_epoch: Callable[[], float]) -> str:
    """Set the keys in iterations from those in epochs, in place; nothing without SOLVER.EPOCHS.

    A config that has been resolved, as that of a run, stays as it is.

    Args:
        cfg: the config; frozen or not.
        images_per_epoch: number of images of an epoch of the training sampler; called with SOLVER.EPOCHS only.

    Returns:
        What follows, in words, for the log; empty without SOLVER.EPOCHS.

    Raises:
        ConfigError: a key in iterations is set to something else; or a negative number.
    """
    check_epochs(cfg)
    if not cfg.SOLVER.EPOCHS:
        return ""
    # Batch sizes of 0 or below are refused where batches are made.
    images, per_iteration = images_per_epoch(), max(1, cfg.SOLVER.IMS_PER_BATCH * cfg.SOLVER.ACCUMULATE)
    iterations = max(1, math.ceil(images / per_iteration))
    frozen = cfg.is_frozen()
    cfg.defrost()
    for key, counted in IN_ITERATIONS.items():
        epochs = _get(cfg, key)
        if epochs:
            _set(cfg, counted, _iterations(epochs, iterations), f"{key} {epochs} at {iterations} iterations an epoch")
    if frozen:
        cfg.freeze()
    counted_keys = [counted for key, counted in IN_ITERATIONS.items() if _get(cfg, key)]
    return (
        f"SOLVER.EPOCHS {cfg.SOLVER.EPOCHS}: an epoch has {round(images, 1):.12g} images, {iterations} iterations of "
        f"{per_iteration} images; " + ", ".join(f"{key} {_get(cfg, key)}" for key in counted_keys)
    )


def forget_iterations(cfg: CfgNode) -> None:
    """Undo ``resolve_epochs`` in place, so that a config with other batches or epochs can be made from it."""
    for key, counted in IN_ITERATIONS.items():
        if cfg.SOLVER.EPOCHS and _get(cfg, key):
            node, _, name = counted.rpartition(".")
            now = _get(cfg, counted)
            setattr(_get(cfg, node), name, now[:0] if isinstance(now, Sequence) else 0)


def num_evaluations(cfg: CfgNode) -> int:
    """Number of evaluations of a training, unless it stops early; before or after ``resolve_epochs``."""
    if cfg.SOLVER.EPOCHS and cfg.TEST.EVAL_EPOCHS:
        return math.ceil(cfg.SOLVER.EPOCHS / cfg.TEST.EVAL_EPOCHS)
    period = cfg.TEST.EVAL_PERIOD
    return math.ceil(cfg.SOLVER.MAX_ITER / period) if period > 0 else 1


def evaluates_on_the_way(cfg: CfgNode) -> bool:
    """Whether a training evaluates before its end; before or after ``resolve_epochs``."""
    return bool(cfg.SOLVER.EPOCHS and cfg.TEST.EVAL_EPOCHS) or cfg.TEST.EVAL_PERIOD > 0


def _iterations(epochs: int | float | Sequence[float], iterations: int) -> Any:
    if isinstance(epochs, Sequence):
        return tuple(round(number * iterations) for number in epochs)
    return round(epochs * iterations)


def _set(cfg: CfgNode, key: str, value: Any, why: str) -> None:
    """Set a key in iterations, if it has its default, 0 or the same value."""
    now = _get(cfg, key)
    unset: list[Any] = [0, (), value]
    if key != "TEST.LOSS_PERIOD":  # this package's own
        unset.append(_get(get_cfg(), key))
    if (tuple(now) if isinstance(now, Sequence) else now) not in unset:
        in_epochs = next(name for name, counted in IN_ITERATIONS.items() if counted == key)
        zero = "()" if isinstance(now, Sequence) else "0"
        none = '"[]"' if isinstance(now, Sequence) else "0"
        raise ConfigError(
            f"{key} is {now}, but {why} are {value}: they contradict each other. Set {key} {zero} to count epochs, or "
            f"{'SOLVER.EPOCHS 0' if in_epochs == 'SOLVER.EPOCHS' else f'{in_epochs} {none}'} to count iterations"
        )
    node, _, name = key.rpartition(".")
    setattr(_get(cfg, node), name, list(value) if isinstance(now, list) else value)


def _get(cfg: CfgNode, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
