"""What a training and an evaluation cost: seconds and peak memory, written beside their results.

OUTPUT_DIR/training_cost.json                     {"seconds", "memory_mb", "gpu_memory_mb", "iterations"}
OUTPUT_DIR/inference/<data set>/prediction_cost.json   {"seconds", "memory_mb", "gpu_memory_mb", "images"}

Seconds of a training are those of the process between its first and last iteration, evaluations included, over all
attempts of a resumed one; seconds of a prediction are those inside the model alone. Memory is the largest that the
process has had, in MiB, and the largest that torch has allocated on the GPU.
"""

import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mammo_d2.core.files import FileFormatError, read_json, write_json
from mammo_d2.framework import HookBase

TRAINING_COST_FILE, PREDICTION_COST_FILE = "training_cost.json", "prediction_cost.json"


def peak_memory() -> dict[str, float | None]:
    """``memory_mb`` of this process, and ``gpu_memory_mb`` (None without a GPU)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None
    return {"memory_mb": peak / (2**20 if sys.platform == "darwin" else 2**10), "gpu_memory_mb": gpu}


def read_cost(path: Path) -> dict[str, Any]:
    """A cost file; empty where there is none, or none that can be read: a cost never stops a run."""
    try:
        content = read_json(path) if path.is_file() else {}
    except FileFormatError:
        return {}
    return content if isinstance(content, dict) else {}


class TrainingCost(HookBase):
    """Writes the cost of a training when it ends or is interrupted; that of earlier attempts is added."""

    def __init__(self, folder: Path):
        self.folder = folder

    def before_train(self) -> None:
        self._former = read_cost(self.folder / TRAINING_COST_FILE) if self.trainer.start_iter > 0 else {}
        self._start = time.perf_counter()

    def after_train(self) -> None:
        memory = {key: _larger(self._former.get(key), value) for key, value in peak_memory().items()}
        seconds = float(self._former.get("seconds") or 0.0) + time.perf_counter() - self._start
        content = {"seconds": seconds, **memory, "iterations": self.trainer.iter + 1}
        write_json(self.folder / TRAINING_COST_FILE, content)


def _larger(former: Any, now: float | None) -> float | None:
    known = [float(value) for value in (former, now) if value is not None]
    return max(known, default=None)


class PredictionClock:
    """Counts images and seconds inside a model, as a context manager."""

    def __init__(self, model: nn.Module):
        self.images, self.seconds = 0, 0.0
        self._model = model
        self._start = 0.0

    def __enter__(self) -> "PredictionClock":
        self._hooks = [
            self._model.register_forward_pre_hook(self._before),
            self._model.register_forward_hook(self._after),
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _before(self, model: nn.Module, inputs: tuple) -> None:
        self._start = self._now()

    def _after(self, model: nn.Module, inputs: tuple, output: Any) -> None:
        self.seconds += self._now() - self._start
        self.images += len(inputs[0]) if inputs and isinstance(inputs[0], (list, tuple)) else 0

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def write(self, folder: Path) -> None:
        """Write ``prediction_cost.json`` into a folder of ``inference``."""
        write_json(folder / PREDICTION_COST_FILE, {"seconds": self.seconds, **peak_memory(), "images": self.images})
