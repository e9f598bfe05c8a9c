"""Writers of what the event storage has collected: to the console, a JSON file and TensorBoard."""

import datetime
import json
import logging
import os
import time
from collections import defaultdict
from functools import cached_property
from typing import Any

import torch

from mammo_d2.framework.embedded.utils.events import EventStorage, get_event_storage
from mammo_d2.framework.embedded.utils.files import PathManager


class EventWriter:
    """Base class: writes what is new in the current storage."""

    def write(self) -> None:
        """Write what is new since the last call."""
        raise NotImplementedError

    def close(self) -> None:
        """Called once at the end."""


class JSONWriter(EventWriter):
    """Appends one JSON object per line and iteration; noisy scalars as medians."""

    def __init__(self, json_file: str, window_size: int = 20):
        """
        Args:
            json_file: file to append to. A last line that a killed run left incomplete is cut off first.
            window_size: iterations of the median.
        """
        _cut_incomplete_line(json_file)
        self._file = PathManager.open(json_file, "a")
        self._window_size = window_size
        self._last_iteration = -1

    def write(self) -> None:
        by_iteration: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in get_event_storage().latest_with_smoothing_hint(self._window_size).items():
            if iteration > self._last_iteration:
                by_iteration[iteration][name] = value
        if not by_iteration:
            return
        self._last_iteration = max(by_iteration)
        lines = [json.dumps({**by_iteration[i], "iteration": i}, sort_keys=True) for i in sorted(by_iteration)]
        self._file.write("\n".join(lines) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def _cut_incomplete_line(path: str) -> None:
    """Truncate a text file after its last newline."""
    if not os.path.isfile(path):
        return
    with open(path, "rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


class TensorboardXWriter(EventWriter):
    """Writes scalars and images to a TensorBoard event file, opened at the first write."""

    def __init__(self, log_dir: str, window_size: int = 20, **kwargs: Any):
        """
        Args:
            log_dir: folder of the event file.
            window_size: iterations of the median of noisy scalars.
            kwargs: further arguments of torch.utils.tensorboard.SummaryWriter.
        """
        self._arguments = {"log_dir": log_dir, **kwargs}
        self._window_size = window_size
        self._last_iteration = -1

    @cached_property
    def _writer(self) -> Any:
        from torch.utils.tensorboard import SummaryWriter  # slow to import, and not needed by evaluation alone

        return SummaryWriter(**self._arguments)

    def write(self) -> None:
        storage = get_event_storage()
        newest = self._last_iteration
        for name, (value, iteration) in storage.latest_with_smoothing_hint(self._window_size).items():
            if iteration > self._last_iteration:
                self._writer.add_scalar(name, value, iteration)
                newest = max(newest, iteration)
        self._last_iteration = newest
        for name, image, iteration in storage.take_images():
            self._writer.add_image(name, image, iteration)

    def close(self) -> None:
        if "_writer" in self.__dict__:
            self._writer.close()


class CommonMetricPrinter(EventWriter):
    """Logs one line with the remaining time, losses, metrics, times, learning rate and GPU memory."""

    def __init__(self, max_iter: int | None = None, window_size: int = 20):
        """
        Args:
            max_iter: number of iterations of the run; without it no remaining time is given.
            window_size: iterations of the medians.
        """
        self.logger = logging.getLogger(__name__)
        self._max_iter = max_iter
        self._window_size = window_size
        self._last_write: tuple[int, float] | None = None  # iteration, clock

    def write(self) -> None:
        storage = get_event_storage()
        if storage.iter == self._max_iter:  # after training: there is no progress to report
            return
        remaining = self._remaining_seconds(storage)
        parts = [f"eta: {datetime.timedelta(seconds=int(remaining))}"] if remaining is not None else []
        parts.append(f"iter: {storage.iter}")
        parts += [self._median(storage, name) for name in storage.histories() if "loss" in name]
        parts += [self._median(storage, name) for name in storage.histories() if "[metric]" in name]
        histories = storage.histories()
        if "time" in histories:
            parts.append(f"time: {histories['time'].global_avg():.4f}  last_time: {histories['time'].latest():.4f}")
        if "data_time" in histories:
            average = histories["data_time"].avg(storage.count_samples("data_time", self._window_size))
            parts.append(f"data_time: {average:.4f}  last_data_time: {histories['data_time'].latest():.4f}")
        parts.append(f"lr: {histories['lr'].latest():.5g}" if "lr" in histories else "lr: N/A")
        if torch.cuda.is_available():
            parts.append(f"max_mem: {torch.cuda.max_memory_allocated() / 2**20:.0f}M")
        self.logger.info(" %s", "  ".join(parts))

    def _median(self, storage: EventStorage, name: str) -> str:
        samples = storage.count_samples(name, self._window_size)
        return f"{name}: {storage.history(name).median(samples):.4g}"

    def _remaining_seconds(self, storage: EventStorage) -> float | None:
        """Time to the end: from the median iteration time, or from the clock between two writes."""
        if self._max_iter is None:
            return None
        steps_left = self._max_iter - storage.iter - 1
        if "time" in storage.histories():
            seconds = float(storage.history("time").median(1000)) * steps_left
            storage.put_scalar("eta_seconds", seconds, smoothing_hint=False)
            return seconds
        now = time.perf_counter()
        last, self._last_write = self._last_write, (storage.iter, now)
        if last is None or last[0] == storage.iter:
            return None
        return (now - last[1]) / (storage.iter - last[0]) * steps_left
