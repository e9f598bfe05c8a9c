"""Trainer hooks: random numbers, weight averaging, evaluation, best checkpoint and early stop, writing of events."""

import copy
import difflib
import math
import random
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mammo_d2.engine.run_files.run_folder import BEST_WEIGHTS
from mammo_d2.framework import HookBase, comm, get_event_storage, hooks


class StepSeed(HookBase):
    """Seed every random number generator from (seed, rank, iteration) before each step.

    A resumed run then draws the same numbers as an uninterrupted one, on every rank, without stored generator states.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def before_step(self) -> None:
        sequence = np.random.SeedSequence([self.seed, comm.get_rank(), self.trainer.iter])
        state = sequence.generate_state(3)
        torch.manual_seed(int(state[0]))
        np.random.seed(state[1])  # noqa: NPY002  components of other code use the global generator
        random.seed(int(state[2]))


class EMA(HookBase):
    """Exponential moving average of the weights and buffers, updated after every step.

    The averaged model is ``self.model``; its state is part of the checkpoint.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: the trained model (not wrapped for distributed training).
            decay: d in ``average = d·average + (1−d)·weights``, in [0, 1).

        Raises:
            ValueError: a decay outside [0, 1).
        """
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"SOLVER.EMA.DECAY is {decay}; it must be in [0, 1)")
        self.source = model
        self.averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)
        self.averaged.requires_grad_(False)

    @property
    def model(self) -> nn.Module:
        return self.averaged.module

    @property
    def has_begun(self) -> bool:
        """Whether a step has been averaged."""
        return int(self.averaged.n_averaged) > 0

    def before_train(self) -> None:
        if not self.has_begun:  # weights may have been loaded after this hook was made
            self.averaged.module.load_state_dict(self.source.state_dict())

    def after_step(self) -> None:
        self.averaged.update_parameters(self.source)

    def state_dict(self) -> dict:
        return self.averaged.state_dict()

    def load_state_dict(self, state_dict: dict) -> None:
        self.averaged.load_state_dict(state_dict)


class PeriodicEvaluation(HookBase):
    """Evaluate every ``period`` iterations and after the last one; numbers go to the event storage as "task/key".

    Unlike the engines' EvalHook, which makes the last evaluation after the training, it makes all of them in
    ``after_step``: ``BestAndEarlyStop`` sees the last one too, it is written with its iteration, and
    ``model_final.pth`` means that all evaluations are done.
    """

    def __init__(self, period: int, evaluate: Callable[[], Mapping[str, Mapping] | None]):
        """
        Args:
            period: in iterations; 0: after the last one only.
            evaluate: called on every rank; the results, {task: {key: number}} or {data set: {task: {key: number}}}, on
                the main process.
        """
        self.period, self.evaluate = period, evaluate

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        if iteration == self.trainer.max_iter or (self.period > 0 and iteration % self.period == 0):
            results = self.evaluate()
            if comm.is_main_process() and results:
                for name, value in _flat(results).items():
                    get_event_storage().put_scalar(name, value, smoothing_hint=False)
            comm.synchronize()


def _flat(results: Mapping, prefix: str = "") -> dict[str, float]:
    """{"image": {"auc": 0.5}} → {"image/auc": 0.5}."""
    found: dict[str, float] = {}
    for key, value in results.items():
        if isinstance(value, Mapping):
            found.update(_flat(value, f"{prefix}{key}/"))
        else:
            found[f"{prefix}{key}"] = float(value)
    return found


class EventWriting(hooks.PeriodicWriter):
    """Writes events periodically, and at every evaluation and checkpoint, so that ``metrics.json`` misses nothing.

    The storage keeps only the newest value of an evaluation, and a resumed run does not log again what happened before
    its checkpoint. The values that medians are made of are part of the checkpoint, so that those of a resumed run are
    the same as without an interruption.
    """

    # Iterations of the writers' medians.
    WINDOW = 20
    # Scalars that measure time: they would make each checkpoint another one.
    _TIMES = ("time", "data_time", "rank_data_time")

    def __init__(self, writers: Sequence, more_periods: Sequence[int], period: int = 20):
        """
        Args:
            writers: the engine's writers.
            more_periods: further periods in iterations, e.g. those of evaluations and checkpoints; 0: none.
            period: the usual period in iterations.
        """
        super().__init__(writers, period=period)
        self.writers, self.periods = writers, [p for p in (*more_periods, period) if p > 0]
        self._former: dict[str, list] = {}

    def before_train(self) -> None:
        super().before_train()
        storage = get_event_storage()
        for name, values in self._former.items():
            for value, iteration in values:
                storage.put_scalar(name, value, cur_iter=iteration)
        self._former = {}

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        if iteration == self.trainer.max_iter or any(iteration % period == 0 for period in self.periods):
            for writer in self.writers:
                writer.write()

    def after_train(self) -> None:
        # What a training that was told to stop has collected is in its checkpoint: the resumed one logs it in time.
        if getattr(self.trainer, "stopped_by_signal", False):
            for writer in self.writers:
                writer.close()
        else:
            super().after_train()

    def state_dict(self) -> dict:
        """Values and iterations of the noisy scalars, by name, as far as medians look back."""
        storage = getattr(self.trainer, "storage", None)
        if storage is None:
            return {}
        noisy = [name for name, smooth in storage.smoothing_hints().items() if smooth and name not in self._TIMES]
        return {
            name: [list(pair) for pair in storage.history(name).values()[-storage.count_samples(name, self.WINDOW) :]]
            for name in sorted(noisy)
        }

    def load_state_dict(self, state_dict: dict) -> None:
        self._former = dict(state_dict)


class BestAndEarlyStop(HookBase):
    """Save ``model_best`` when a metric improves, and ask the trainer to stop when it no longer does.

    Runs after the evaluation hook. A metric that is NaN never counts as better; one that no evaluation has is an error.
    """

    def __init__(self, period: int, metric: str, mode: str = "max", patience: int = 0, save=None, stop=None):
        """
        Args:
            period: evaluation period in iterations.
            metric: name in the event storage, e.g. "froc/malignant/sens@0.5".
            mode: "max" or "min".
            patience: evaluations without a better value before stopping; 0 never stops.
            save: called with the file name on the main process.
            stop: called with the reason, on every rank, when patience is over; needed if ``patience`` is positive.

        Raises:
            ValueError: another mode.
        """
        if mode not in ("max", "min"):
            raise ValueError(f"TEST.BEST_MODE is {mode!r}; use max or min")
        self.period, self.metric, self.mode, self.patience = period, metric, mode, patience
        self.save, self.stop = save, stop
        self.best: float | None = None
        self.best_iter, self.bad_evaluations = -1, 0

    def before_train(self) -> None:
        # The run may be resumed from the checkpoint at which it was about to stop.
        self._stop_if_over()

    def after_step(self) -> None:
        iteration = self.trainer.iter
        if self.period > 0 and ((iteration + 1) % self.period == 0 or iteration + 1 == self.trainer.max_iter):
            self._compare(iteration)

    def _compare(self, iteration: int) -> None:
        # Only the main process evaluates; all ranks follow its decision.
        value = self._newest() if comm.is_main_process() else None
        value = comm.all_gather(value)[0]
        number, measured_at = value
        if measured_at != iteration and not math.isnan(number):
            number = math.nan
        if self._better(number):
            self.best, self.best_iter, self.bad_evaluations = float(number), iteration, 0
            if self.save is not None and comm.is_main_process():
                self.save(BEST_WEIGHTS)
        else:
            self.bad_evaluations += 1
            self._stop_if_over()

    def _stop_if_over(self) -> None:
        if self.patience > 0 and self.bad_evaluations >= self.patience:
            self.stop(
                f"{self.metric} has not improved on {self.best} (iteration {self.best_iter}) "
                f"for {self.patience} evaluations"
            )

    def _newest(self) -> tuple[float, int]:
        """The metric's newest value, and the iteration it is from.

        Raises:
            ValueError: no evaluation has had the metric.
        """
        latest = get_event_storage().latest()
        if self.metric not in latest:
            known = sorted(name for name in latest if "/" in name)
            near = difflib.get_close_matches(self.metric, known, n=3, cutoff=0.6)
            hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known) or 'none'}"
            raise ValueError(f"TEST.BEST_METRIC {self.metric!r} is not among the metrics of the evaluation; {hint}")
        return latest[self.metric]

    def _better(self, value: float) -> bool:
        if math.isnan(value):
            return False
        return self.best is None or (value > self.best if self.mode == "max" else value < self.best)

    def state_dict(self) -> dict:
        return {"best": self.best, "best_iter": self.best_iter, "bad_evaluations": self.bad_evaluations}

    def load_state_dict(self, state_dict: dict) -> None:
        self.__dict__.update(copy.deepcopy(state_dict))
