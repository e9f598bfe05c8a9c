"""The evaluation loop, base classes of evaluators, and logging of results."""

import datetime
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, MutableSequence, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from mammo_d2.framework.embedded.utils import comm

logger = logging.getLogger(__name__)

Results = Mapping[str, Any]


class DatasetEvaluator:
    """Base class of evaluators: collects the model's outputs for each image and computes metrics from them."""

    def reset(self) -> None:
        """Forget everything; called before each evaluation."""

    def process(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        """Take in one batch.

        Args:
            inputs: the batch given to the model.
            outputs: what the model returned for it, in the same order.
        """

    def evaluate(self) -> Results | None:
        """Gather from all ranks and compute.

        Returns:
            {task: {metric: value}} on the main process; None is allowed on the others.
        """
        return None


class DatasetEvaluators(DatasetEvaluator):
    """Several evaluators used as one; their results must not share a task name."""

    def __init__(self, evaluators: Sequence[DatasetEvaluator]):
        self._evaluators = evaluators

    def reset(self) -> None:
        for evaluator in self._evaluators:
            evaluator.reset()

    def process(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
        for evaluator in self._evaluators:
            evaluator.process(inputs, outputs)

    def evaluate(self) -> Results:
        results: OrderedDict[str, Any] = OrderedDict()
        for evaluator in self._evaluators:
            part = evaluator.evaluate()
            if not comm.is_main_process() or part is None:
                continue
            for task, values in part.items():
                if task in results:
                    raise AssertionError(f"two evaluators give results named {task!r}")
                results[task] = values
        return results


class _Clock:
    """Seconds spent on data, model and evaluation, without the first batches."""

    def __init__(self, num_batches: int):
        self._num_batches = num_batches
        self._num_warmup = min(5, max(num_batches - 1, 0))
        self._spent = {"data": 0.0, "inference": 0.0, "evaluation": 0.0}
        self._done = 0
        self._start = self._last = time.perf_counter()
        self._last_log = self._start

    def lap(self, part: str) -> None:
        now = time.perf_counter()
        self._spent[part] += now - self._last
        self._last = now

    def batch_done(self) -> None:
        self._done += 1
        if self._done == self._num_warmup:
            self._spent = dict.fromkeys(self._spent, 0.0)
            self._start = self._last
        if self._last - self._last_log > 5 and self._timed > 0:
            self._last_log = self._last
            per_batch = (self._last - self._start) / self._timed
            left = datetime.timedelta(seconds=int(per_batch * (self._num_batches - self._done)))
            parts = ". ".join(f"{part}: {seconds / self._timed:.4f} s" for part, seconds in self._spent.items())
            logger.info("Batch %d of %d. %s. Time left: %s", self._done, self._num_batches, parts, left)

    @property
    def _timed(self) -> int:
        return self._done - self._num_warmup if self._done >= self._num_warmup else self._done

    def summary(self) -> None:
        timed = max(self._timed, 1)
        logger.info(
            "Evaluated in %s: %.4f s per batch and process, %d processes; the model alone %.4f s per batch",
            datetime.timedelta(seconds=int(self._last - self._start)),
            (self._last - self._start) / timed,
            comm.get_world_size(),
            self._spent["inference"] / timed,
        )


def inference_on_dataset(
    model: Callable[[Any], Any], data_loader: Any, evaluator: DatasetEvaluator | MutableSequence[DatasetEvaluator]
) -> Results:
    """Run a model over a loader and evaluate. Every rank calls it, each with its part of the data.

    Args:
        model: batch -> outputs; a module is in evaluation mode meanwhile.
        data_loader: batches, with a length.
        evaluator: one or several.

    Returns:
        What the evaluator returns, an empty dict for None.
    """
    if isinstance(evaluator, MutableSequence):
        evaluator = DatasetEvaluators(evaluator)
    evaluator.reset()
    logger.info("Evaluating %d batches", len(data_loader))
    clock = _Clock(len(data_loader))
    with inference_context(model), torch.no_grad():
        for inputs in data_loader:
            clock.lap("data")
            outputs = model(inputs)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            clock.lap("inference")
            evaluator.process(inputs, outputs)
            clock.lap("evaluation")
            clock.batch_done()
    clock.summary()
    return evaluator.evaluate() or {}


@contextmanager
def inference_context(model: Callable[[Any], Any]) -> Iterator[None]:
    """Evaluation mode inside, the former mode afterwards, also after an exception."""
    if not isinstance(model, nn.Module):
        yield
        return
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def flatten_results_dict(results: Mapping[str, Any]) -> dict[str, Any]:
    """{"bbox": {"AP50": 80}} -> {"bbox/AP50": 80}, at any depth."""
    flat: dict[str, Any] = {}
    for name, value in results.items():
        if isinstance(value, Mapping):
            flat.update({f"{name}/{inner}": v for inner, v in flatten_results_dict(value).items()})
        else:
            flat[name] = value
    return flat


def print_csv_format(results: Mapping[str, Any]) -> None:
    """Log each task's metrics as two comma-separated lines, names and values; metrics with "-" in the name are per
    category and left out."""
    for task, metrics in results.items():
        if not isinstance(metrics, Mapping):
            logger.info("copypaste: %s=%s", task, metrics)
            continue
        main = {name: value for name, value in metrics.items() if "-" not in name}
        logger.info("copypaste: Task: %s", task)
        logger.info("copypaste: %s", ",".join(main))
        logger.info("copypaste: %s", ",".join(f"{value:.4f}" for value in main.values()))
