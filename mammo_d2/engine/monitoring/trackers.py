"""Experiment trackers: MLflow and Weights & Biases behind one small interface."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Mapping
from typing import Any, Protocol

# MLflow takes at most so many parameters and metrics in one call, and values of a parameter of so many characters.
_PARAMETERS, _METRICS, _LENGTH = 100, 1000, 6000


class Tracker(Protocol):
    """A run in a tracker.

    Attributes:
        run_id: with which another process continues it.
    """

    run_id: str

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Add finite metrics of an iteration."""

    def finish(self, status: str, weights: str) -> None:
        """End the run.

        Args:
            status: "FINISHED", "FAILED" or "KILLED".
            weights: path of the resulting weights; empty without any. They are named, not copied.
        """


class MLflowTracker:
    """A run in an MLflow store."""

    def __init__(
        self, project: str, name: str, config: Mapping[str, str], text: str, uri: str = "", run_id: str | None = None
    ):
        """
        Args:
            project: the experiment; it is made if there is none.
            name: of the run.
            config: parameters.
            text: the whole configuration, stored as config.yaml.
            uri: of the store; empty: MLFLOW_TRACKING_URI, else the folder ``mlruns`` of the working directory.
            run_id: continue this run.

        Raises:
            ModuleNotFoundError: MLflow is not installed.
            mlflow.exceptions.MlflowException: the store does not answer, or has no such run.
        """
        # A training reports to nobody but the store that was named.
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "") or f"file:{os.path.abspath('mlruns')}"
        if uri.startswith("file:") or "://" not in uri:
            # MLflow 3 refuses stores in folders unless they are asked for, as they are here.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient
        from mlflow.entities import Metric, Param

        self._metric = Metric
        self._client = MlflowClient(tracking_uri=uri)
        if run_id is not None:
            self.run_id = self._client.get_run(run_id).info.run_id
            self._client.update_run(self.run_id, status="RUNNING")
            return
        experiment = self._client.get_experiment_by_name(project)
        identifier = experiment.experiment_id if experiment is not None else self._client.create_experiment(project)
        self.run_id = self._client.create_run(identifier, run_name=name).info.run_id
        parameters = [Param(_allowed(key), value[:_LENGTH]) for key, value in config.items()]
        for start in range(0, len(parameters), _PARAMETERS):
            self._client.log_batch(self.run_id, params=parameters[start : start + _PARAMETERS])
        self._client.log_text(self.run_id, text, "config.yaml")

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """See ``Tracker``."""
        now = int(time.time() * 1000)
        metrics = [self._metric(_allowed(name), value, now, step) for name, value in numbers.items()]
        for start in range(0, len(metrics), _METRICS):
            self._client.log_batch(self.run_id, metrics=metrics[start : start + _METRICS])

    def finish(self, status: str, weights: str) -> None:
        """See ``Tracker``; the path is the tag ``result_weights``."""
        if weights:
            self._client.set_tag(self.run_id, "result_weights", weights)
        self._client.set_terminated(self.run_id, status)


class WandbTracker:
    """A run of Weights & Biases; nothing leaves the machine unless the environment variable WANDB_MODE says so."""

    def __init__(self, project: str, name: str, config: Mapping[str, str], folder: str, run_id: str | None = None):
        """
        Args:
            project: of the run.
            name: of the run.
            config: its configuration.
            folder: where it writes.
            run_id: continue this run.

        Raises:
            ModuleNotFoundError: wandb is not installed.
        """
        import wandb

        self._run: Any = wandb.init(
            project=project, name=name, config=dict(config), dir=folder, id=run_id, resume="allow" if run_id else None,
            mode=os.environ.get("WANDB_MODE", "offline"),
        )  # fmt: skip
        self.run_id = self._run.id

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """See ``Tracker``."""
        self._run.log(dict(numbers), step=step)

    def finish(self, status: str, weights: str) -> None:
        """See ``Tracker``; the path is in the run's summary."""
        if weights:
            self._run.summary["result_weights"] = weights
        self._run.finish(exit_code=0 if status == "FINISHED" else 1)


def finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers that are neither NaN nor infinite."""
    return {name: float(value) for name, value in numbers.items() if math.isfinite(value)}


def _allowed(name: str) -> str:
    """A name in MLflow's characters: "malignant/sens@0.5" becomes "malignant/sens_at_0.5"."""
    return re.sub(r"[^\w\-. :/]", "_", name.replace("@", "_at_"))
