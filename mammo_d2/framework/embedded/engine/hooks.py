"""The standard hooks: timing, schedule, checkpoints, evaluation, writers."""

import datetime
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fvcore.common.checkpoint import Checkpointer
from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.param_scheduler import ParamScheduler
from fvcore.common.timer import Timer
from fvcore.nn.precise_bn import get_bn_modules, update_bn_stats
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler as _TorchScheduler

from mammo_d2.framework.embedded.engine.inference import flatten_results_dict
from mammo_d2.framework.embedded.engine.solver import LRMultiplier
from mammo_d2.framework.embedded.engine.trainer import HookBase, TrainerBase
from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.events import EventStorage
from mammo_d2.framework.embedded.utils.writers import EventWriter

__all__ = [
    "BestCheckpointer",
    "CallbackHook",
    "EvalHook",
    "HookBase",
    "IterationTimer",
    "LRScheduler",
    "PeriodicCheckpointer",
    "PeriodicWriter",
    "PreciseBN",
]

logger = logging.getLogger(__name__)

Callback = Callable[[TrainerBase], None]


class CallbackHook(HookBase):
    """A hook made of functions of the trainer."""

    def __init__(
        self,
        *,
        before_train: Callback | None = None,
        after_train: Callback | None = None,
        before_step: Callback | None = None,
        after_step: Callback | None = None,
    ):
        self._callbacks = {
            "before_train": before_train,
            "after_train": after_train,
            "before_step": before_step,
            "after_step": after_step,
        }

    def _call(self, moment: str) -> None:
        callback = self._callbacks.get(moment)
        if callback is not None:
            callback(self.trainer)

    def before_train(self) -> None:
        self._call("before_train")

    def before_step(self) -> None:
        self._call("before_step")

    def after_step(self) -> None:
        self._call("after_step")

    def after_train(self) -> None:
        self._call("after_train")
        self._callbacks.clear()  # they often hold the trainer, which holds this hook


class IterationTimer(HookBase):
    """Puts the seconds of each step into the storage as "time" and logs the average speed at the end. Comes first."""

    def __init__(self, warmup_iter: int = 3):
        """
        Args:
            warmup_iter: first iterations that are not timed.
        """
        self._warmup_iter = warmup_iter
        self._step = Timer()
        self._steps = Timer()  # runs during steps only
        self._start = time.perf_counter()

    def before_train(self) -> None:
        self._restart()
        self._steps.pause()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._steps.reset()

    def before_step(self) -> None:
        self._step.reset()
        self._steps.resume()

    def after_step(self) -> None:
        done = self.trainer.storage.iter - self.trainer.start_iter + 1
        if done >= self._warmup_iter:
            self.trainer.storage.put_scalars(time=self._step.seconds())
        else:
            self._restart()
        self._steps.pause()

    def after_train(self) -> None:
        total = time.perf_counter() - self._start
        in_steps = self._steps.seconds()
        timed = self.trainer.storage.iter + 1 - self.trainer.start_iter - self._warmup_iter
        if timed > 0 and in_steps > 0:
            logger.info("Speed: %.4f s per iteration (%d iterations in %s)", in_steps / timed, timed, _hms(in_steps))
        logger.info("Time: %s, of it %s in hooks", _hms(total), _hms(total - in_steps))


def _hms(seconds: float) -> str:
    return str(datetime.timedelta(seconds=int(seconds)))


class PeriodicWriter(HookBase):
    """Calls the writers every `period` iterations, after the last one and at the end. Comes last."""

    def __init__(self, writers: Sequence[EventWriter], period: int = 20):
        """
        Args:
            writers: the writers.
            period: iterations between two writes; the writers' smoothing is their own.
        """
        for writer in writers:
            if not isinstance(writer, EventWriter):
                raise TypeError(f"a writer must be an EventWriter, not {type(writer)}")
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()

    def after_train(self) -> None:
        for writer in self._writers:
            writer.write()  # e.g. results of the evaluation after the last iteration
            writer.close()


class PeriodicCheckpointer(_PeriodicCheckpointer, HookBase):
    """Saves model_NNNNNNN every `period` iterations and model_final after the last one; arguments as fvcore's."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class BestCheckpointer(HookBase):
    """Saves a checkpoint when a metric is better than ever before. Comes after the EvalHook that gives the metric."""

    def __init__(
        self,
        eval_period: int,
        checkpointer: Checkpointer,
        val_metric: str,
        mode: str = "max",
        file_prefix: str = "model_best",
    ):
        """
        Args:
            eval_period: the EvalHook's period.
            checkpointer: saves the checkpoint.
            val_metric: name in the storage, e.g. "bbox/AP50".
            mode: "max" or "min".
            file_prefix: file name without ending.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"mode is {mode!r}; use 'max' or 'min'")
        self._period = eval_period
        self._checkpointer = checkpointer
        self._metric = val_metric
        self._sign = 1 if mode == "max" else -1
        self._file_prefix = file_prefix
        self.best_metric: float | None = None
        self.best_iter: int | None = None

    def _check(self) -> None:
        latest = self.trainer.storage.latest().get(self._metric)
        if latest is None:
            logger.warning("No metric %s was computed; the best checkpoint cannot be chosen by it", self._metric)
            return
        value, iteration = latest
        if not math.isfinite(value):
            logger.warning("%s is %s at iteration %d: not a candidate for the best", self._metric, value, iteration)
            return
        if self.best_metric is not None and self._sign * value <= self._sign * self.best_metric:
            logger.info("%s %.5f is not better than %.5f @ %d", self._metric, value, self.best_metric, self.best_iter)
            return
        self.best_metric, self.best_iter = value, iteration
        self._checkpointer.save(self._file_prefix, iteration=iteration)
        logger.info("Saved the best model so far: %s %.5f @ %d", self._metric, value, iteration)

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._check()

    def after_train(self) -> None:
        if self.trainer.iter + 1 >= self.trainer.max_iter:
            self._check()


class LRScheduler(HookBase):
    """Puts "lr" into the storage after each step, then advances the schedule."""

    def __init__(self, optimizer: Optimizer | None = None, scheduler: _TorchScheduler | ParamScheduler | None = None):
        """
        Args:
            optimizer: default: the trainer's.
            scheduler: default: the trainer's. A fvcore ParamScheduler is a factor on the initial learning rates.
        """
        self._optimizer = optimizer
        self._scheduler = scheduler

    @property
    def scheduler(self) -> Any:
        """The schedule."""
        return self._scheduler or self.trainer.scheduler  # type: ignore[attr-defined]

    def before_train(self) -> None:
        self._optimizer = self._optimizer or self.trainer.optimizer  # type: ignore[attr-defined]
        if isinstance(self.scheduler, ParamScheduler):
            last = self.trainer.iter - 1
            self._scheduler = LRMultiplier(self._optimizer, self.scheduler, self.trainer.max_iter, last_iter=last)
        self._shown_group = self.get_best_param_group_id(self._optimizer)

    @staticmethod
    def get_best_param_group_id(optimizer: Optimizer) -> int:
        """The group to log: the one with most parameters; if all have one, the first with the commonest rate."""
        sizes = [len(group["params"]) for group in optimizer.param_groups]
        if max(sizes) > 1:
            return sizes.index(max(sizes))
        rates = [group["lr"] for group in optimizer.param_groups]
        return rates.index(Counter(rates).most_common(1)[0][0])

    def after_step(self) -> None:
        assert self._optimizer is not None
        rate = self._optimizer.param_groups[self._shown_group]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict() if isinstance(self.scheduler, _TorchScheduler) else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if isinstance(self.scheduler, _TorchScheduler):
            self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Evaluates every `eval_period` iterations and after the last one; the results go into the storage.

    It runs on every rank: a rank that is not to evaluate gets a function that returns None.
    """

    def __init__(
        self, eval_period: int, eval_function: Callable[[], Mapping[str, Any] | None], eval_after_train: bool = True
    ):
        """
        Args:
            eval_period: iterations between evaluations; 0: only after the last iteration.
            eval_function: returns nested results; {"bbox": {"AP50": 80.0}} becomes the scalar "bbox/AP50".
            eval_after_train: whether to evaluate after the last iteration.
        """
        self._period = eval_period
        self._function: Callable[[], Mapping[str, Any] | None] | None = eval_function
        self._eval_after_train = eval_after_train

    def _evaluate(self) -> None:
        assert self._function is not None
        results = self._function()
        if results:
            if not isinstance(results, Mapping):
                raise TypeError(f"the evaluation must return a dict, not {type(results)}")
            scalars: dict[str, Any] = {}
            for name, value in flatten_results_dict(results).items():
                try:
                    scalars[name] = float(value)
                except (TypeError, ValueError) as error:
                    raise ValueError(
                        f"[EvalHook] result {name!r} of the evaluation is {value!r}; it must be a number"
                    ) from error
            self.trainer.storage.put_scalars(**scalars, smoothing_hint=False)
        comm.synchronize()  # ranks may have needed different times

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if self._period > 0 and done % self._period == 0 and done != self.trainer.max_iter:
            self._evaluate()

    def after_train(self) -> None:
        if self._eval_after_train and self.trainer.iter + 1 >= self.trainer.max_iter:
            self._evaluate()
        self._function = None  # it often holds the trainer, which holds this hook


class PreciseBN(HookBase):
    """Replaces the running statistics of BatchNorm layers in training mode by true averages over some batches."""

    def __init__(self, period: int, model: nn.Module, data_loader: Iterable[Any], num_iter: int):
        """
        Args:
            period: iterations between two updates; 0: only after the last iteration.
            model: the model; without such layers the hook does nothing.
            data_loader: batches for it, not the training's own loader.
            num_iter: batches to average over.
        """
        self._period = period
        self._model = model
        self._data_loader = data_loader
        self._num_iter = num_iter

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            self.update_stats()

    def update_stats(self) -> None:
        """Compute and set the statistics now."""
        if not get_bn_modules(self._model):
            return
        logger.info("Computing batch normalisation statistics over %d batches", self._num_iter)
        with EventStorage():  # what the model logs meanwhile is not part of the run
            update_bn_stats(self._model, iter(self._data_loader), self._num_iter)
