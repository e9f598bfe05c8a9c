"""The hook that tells an experiment tracker of a training: config, metrics, where the weights are."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mammo_d2.core.files import read_json, write_json
from mammo_d2.engine.hooks import EventWriting
from mammo_d2.engine.monitoring.trackers import MLflowTracker, Tracker, WandbTracker, finite
from mammo_d2.engine.run_files.run_folder import BEST_WEIGHTS, EMA_WEIGHTS, FINAL_WEIGHTS, TRACKER_FILE, is_finished
from mammo_d2.framework import CfgNode, HookBase, get_event_storage

logger = logging.getLogger(__name__)


class Tracking(HookBase):
    """Starts a run in a tracker, logs what ``metrics.json`` gets, and ends it; of the main process only.

    A tracker that cannot be reached before the training is an error. One that fails later is told in the log once and
    left alone: a training of days does not depend on it.
    """

    def __init__(self, cfg: CfgNode, more_periods: Sequence[int], start: Callable[..., Tracker] | None = None):
        """
        Args:
            cfg: the training's; TRACKER.NAME is not empty.
            more_periods: as of ``EventWriting``.
            start: makes the tracker, called as start(cfg, run_id); by default ``start_tracker``.
        """
        self.cfg, self.folder = cfg, Path(cfg.OUTPUT_DIR)
        self.periods = [period for period in (*more_periods, 20) if period > 0]
        self._start = start or start_tracker
        self._tracker: Tracker | None = None
        self._newest = -1

    def before_train(self) -> None:
        self._newest = self.trainer.start_iter - 1
        self._tracker = self._start(self.cfg, self._former_run() if self.trainer.start_iter > 0 else None)
        write_json(self.folder / TRACKER_FILE, {"tracker": self.cfg.TRACKER.NAME, "run": self._tracker.run_id})

    def after_step(self) -> None:
        iteration = self.trainer.iter + 1
        if iteration == self.trainer.max_iter or any(iteration % period == 0 for period in self.periods):
            self._log()

    def after_train(self) -> None:
        if getattr(self.trainer, "stopped_by_signal", False):
            status = "KILLED"
        else:
            status = "FINISHED" if self.trainer.iter + 1 >= self.trainer.max_iter else "FAILED"
            self._log()
        weights = self.result() if status == "FINISHED" else ""
        self._tell(lambda tracker: tracker.finish(status, weights))
        self._tracker = None

    def result(self) -> str:
        """Path of the weights that the training ends with; empty if it has not finished. The average is not there yet:
        the trainer writes it last."""
        if not is_finished(self.folder):
            return ""
        average = EMA_WEIGHTS if self.cfg.SOLVER.EMA.ENABLED else FINAL_WEIGHTS
        name = BEST_WEIGHTS if (self.folder / BEST_WEIGHTS).is_file() else average
        return str((self.folder / name).resolve())

    def _log(self) -> None:
        latest = get_event_storage().latest_with_smoothing_hint(EventWriting.WINDOW)
        by_iteration: dict[int, dict[str, float]] = {}
        for name, (value, iteration) in latest.items():
            if iteration > self._newest:
                by_iteration.setdefault(iteration, {})[name] = value
        for iteration, numbers in sorted(by_iteration.items()):
            if known := finite(numbers):
                self._tell(partial(_log_numbers, known, iteration))
            self._newest = iteration

    def _tell(self, what: Callable[[Tracker], Any]) -> None:
        if self._tracker is None:
            return
        try:
            what(self._tracker)
        except Exception as error:
            logger.warning(
                "the tracker %s failed and is told no more, the training goes on; %s has all numbers (%s: %s)",
                self.cfg.TRACKER.NAME, self.folder / "metrics.json", type(error).__name__, error,
            )  # fmt: skip
            self._tracker = None

    def _former_run(self) -> str | None:
        """Run of the interrupted training, if it was told to the same tracker."""
        path = self.folder / TRACKER_FILE
        if not path.is_file():
            return None
        content = read_json(path, remedy="delete it: the tracker gets a new run")
        if not isinstance(content, dict) or not isinstance(content.get("run"), str):
            raise ValueError(f"{path}: must hold a JSON object with tracker and run; delete it for a new run")
        return content["run"] if content.get("tracker") == self.cfg.TRACKER.NAME else None


def _log_numbers(numbers: dict[str, float], step: int, tracker: Tracker) -> None:
    tracker.log(numbers, step)


def start_tracker(cfg: CfgNode, run_id: str | None) -> Tracker:
    """The tracker of TRACKER.NAME with a run for the training in OUTPUT_DIR.

    Args:
        cfg: the training's.
        run_id: continue this run; None: a new one.

    Raises:
        ModuleNotFoundError: its package is not installed; the command line names the extra.
    """
    keys, config = cfg.TRACKER, dict(flat_config(cfg))
    name = os.path.normpath(cfg.OUTPUT_DIR)
    if keys.NAME == "mlflow":
        return MLflowTracker(keys.PROJECT, name, config, cfg.dump(), keys.URI, run_id)
    return WandbTracker(keys.PROJECT, name, config, cfg.OUTPUT_DIR, run_id)


def flat_config(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value as text) of every key."""
    for name, value in node.items():
        if isinstance(value, CfgNode):
            yield from flat_config(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)
