"""The standard hooks: timing, schedule, checkpoints, evaluation, writers."""

import datetime
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fvcore.common.checkpoint import PeriodicCheckpointer as _PeriodicCheckpointer
from fvcore.common.timer import Timer
from torch.optim import Optimizer

from mammo_d2.framework.embedded.engine.inference import flatten_results_dict
from mammo_d2.framework.embedded.engine.trainer import HookBase
from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.writers import EventWriter

__all__ = ["EvalHook", "HookBase", "IterationTimer", "LRScheduler", "PeriodicCheckpointer", "PeriodicWriter"]

logger = logging.getLogger(__name__)


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
    """Calls the writers every ``period`` iterations, after the last one and at the end. Comes last."""

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
    """Saves model_NNNNNNN every ``period`` iterations and model_final after the last one; arguments as fvcore's."""

    def before_train(self) -> None:
        self.max_iter = self.trainer.max_iter

    def after_step(self) -> None:
        self.step(self.trainer.iter)


class LRScheduler(HookBase):
    """Puts "lr" into the storage after each step, then advances the trainer's ``scheduler``."""

    @property
    def scheduler(self) -> Any:
        """The trainer's schedule."""
        return self.trainer.scheduler  # type: ignore[attr-defined]

    def before_train(self) -> None:
        self._optimizer: Optimizer = self.trainer.optimizer  # type: ignore[attr-defined]
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
        rate = self._optimizer.param_groups[self._shown_group]["lr"]
        self.trainer.storage.put_scalar("lr", rate, smoothing_hint=False)
        self.scheduler.step()

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state_dict)


class EvalHook(HookBase):
    """Evaluates every ``eval_period`` iterations and after the last one; the results go into the storage.

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
