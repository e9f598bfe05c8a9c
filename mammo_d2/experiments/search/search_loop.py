"""Hyper-parameter search: trials of a config with values drawn by Optuna, each trial a training.

A trial's value is the best evaluation of its training on a validation set, and its weights are those of that
evaluation. All draws follow from the seed, the trial's number and the values of earlier trials: an interrupted and
resumed search gives the same trials as an uninterrupted one (with one job; random search with any number of jobs).
"""

import math
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_files.run_folder import LOG_FILE, remove_checkpoints
from mammo_d2.engine.run_files.run_record import claim_folders
from mammo_d2.experiments.search.journal import open_storage, together
from mammo_d2.experiments.search.search_outcome import write_report
from mammo_d2.experiments.search.search_plan import SearchPlan
from mammo_d2.experiments.search.trial import (
    LoggedEvaluation,
    SearchError,
    TrialJob,
    alone_in,
    read_evaluations,
    trial_folder,
)
from mammo_d2.jobs.job import build_job

# Exit codes that tell nothing about the parameters: bad input, interrupted, ended from outside.
_NOT_A_RESULT = (2, 128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM)


class TrialProcess(Protocol):
    """A running training."""

    def poll(self) -> int | None: ...

    def stop(self) -> None: ...


StartJob = Callable[[Path, str, Sequence[str], int], TrialProcess]


def search(
    plan: SearchPlan,
    trials: int,
    jobs: int = 1,
    top: int = 5,
    keep_checkpoints: bool = False,
    start: StartJob = TrialJob,
    interval: float = 2.0,
) -> list[dict[str, Any]]:
    """Run trials until there are ``trials`` of them.

    Finished trials are kept and interrupted ones resumed, as long as plan, config and data have not changed.

    Args:
        plan: what is searched, ``complete``.
        trials: number of trials in all, including those of earlier calls.
        jobs: number of parallel trials.
        top: number of best trials in ``top.json``.
        keep_checkpoints: keep those, too, that a finished training no longer needs.
        start: starts a training; see ``TrialJob``.
        interval: seconds between two looks at the running trials.

    Returns:
        One dict a trial, best first: ``trial``, ``value``, ``state``, ``iteration``, the parameters and ``folder``.

    Raises:
        RunConflictError: the folder holds a search with another config or other data.
        SearchError: another plan's folder, a training that had bad input or was ended from outside, or no trial with a
            value.
    """
    with alone_in(plan.output):
        study = open_study(plan)
        waiting = [trial.number for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))]
        running: list[RunningTrial] = []
        try:
            while True:
                while len(running) < jobs and (waiting or len(study.get_trials(deepcopy=False)) < trials):
                    trial = next_trial(study, plan, waiting.pop(0) if waiting else None)
                    running.append(RunningTrial(study, plan, trial, start, jobs, keep_checkpoints))
                if not running:
                    break
                time.sleep(interval)
                for running_trial in list(running):
                    if running_trial.look():
                        running.remove(running_trial)
                        _print_outcome(running_trial, len(study.get_trials(deepcopy=False)), trials)
                        write_report(study, plan, top)
        finally:
            for running_trial in running:
                running_trial.process.stop()
        rows = write_report(study, plan, top)
    if not any(row["state"] == "complete" for row in rows):
        raise SearchError(f"no trial has a value; see {plan.output / 'search.md'} and the logs it names")
    return rows


def open_study(plan: SearchPlan) -> optuna.Study:
    """The study of an output folder, created if missing.

    Raises:
        RunConflictError: it was made with another config or other data.
        SearchError: it was made with another plan.
    """
    claim_folders({plan.output: load_config(plan.config_file, list(plan.overrides))})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=open_storage(plan.output / "study.log"),
        study_name="search",
        direction="maximize" if plan.mode == "max" else "minimize",
        pruner=_pruner(plan),
        load_if_exists=True,
    )
    settings, former = plan.settings(), study.user_attrs.get("settings")
    if former is None:
        study.set_user_attr("settings", settings)
    elif former != settings:
        changed = [key for key in settings if settings[key] != former.get(key)]
        raise SearchError(
            f"{plan.output} holds a search with other {', '.join(changed)}; finish it with those, or name another "
            "--output"
        )
    return study


def _pruner(plan: SearchPlan) -> optuna.pruners.BasePruner:
    if plan.pruner == "median":
        return optuna.pruners.MedianPruner(n_warmup_steps=plan.prune_after)
    if plan.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=plan.prune_after)
    return optuna.pruners.NopPruner()


def next_trial(study: optuna.Study, plan: SearchPlan, number: int | None) -> optuna.Trial:
    """A new trial, or the interrupted one of that number, with all its parameters drawn.

    The sampler is seeded for every trial, so its draws do not depend on how often the search was resumed.
    """
    position = len(study.get_trials(deepcopy=False)) if number is None else number
    seed = int(np.random.SeedSequence([plan.seed, position]).generate_state(1)[0])
    kinds = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    study.sampler = kinds[plan.sampler](seed=seed)
    with together(study):
        # Optuna continues a trial of an earlier process by its id only.
        trial = study.ask() if number is None else optuna.Trial(study, study.trials[number]._trial_id)
        for searched in plan.ranges:
            searched.suggest(trial)
    return trial


class RunningTrial:
    """A trial whose training runs: reports its evaluations to the study, and stops it if the pruner says so."""

    def __init__(
        self,
        study: optuna.Study,
        plan: SearchPlan,
        trial: optuna.Trial,
        start: StartJob,
        jobs: int,
        keep_checkpoints: bool,
    ):
        """Start or resume the training in ``<output>/trial<number>``."""
        self.study, self.plan, self.trial, self.keep_checkpoints = study, plan, trial, keep_checkpoints
        self.folder = trial_folder(plan.output, trial.number)
        overrides = plan.trial_overrides({searched.key: searched.suggest(trial) for searched in plan.ranges})
        self.stages = build_job(load_config(plan.config_file, overrides)).stages()
        self.reported = set(self._frozen().intermediate_values)
        self.state = TrialState.RUNNING
        self.process = start(self.folder, plan.config_file, overrides, jobs)

    def look(self) -> bool:
        """Read what is new; True when the trial has ended.

        Raises:
            SearchError: the training ended for a reason other than its parameters; the trial stays open.
        """
        status = self.process.poll()  # before reading, so that nothing is written after the last look
        if status in _NOT_A_RESULT:
            raise SearchError(
                f"trial {self.trial.number} ended early (exit status {status}); see {self.folder / LOG_FILE}. "
                "The same command goes on with it"
            )
        evaluations = read_evaluations(self.folder, self.stages, self.plan.metric)
        last_step = sum(stage.evaluations for stage in self.stages)
        for evaluation in evaluations:
            if evaluation.step in self.reported or math.isnan(evaluation.value):
                continue
            self.reported.add(evaluation.step)
            with together(self.study):
                self.trial.report(evaluation.value, evaluation.step)
                # Decided by the step, not by whether the process has ended: the outcome must not depend on timing.
                if evaluation.step < last_step and self.trial.should_prune():
                    self._tell(TrialState.PRUNED, None, evaluation.iteration)
            if self.state == TrialState.PRUNED:
                self.process.stop()
                self._remove_checkpoints()
                return True
        if status is None:
            return False
        values = [found for found in evaluations if found.last_stage and not math.isnan(found.value)]
        if status != 0 or not values:
            reason = f"exit status {status}" if status else f"{self.plan.metric} is undefined"
            with together(self.study):
                self.trial.set_user_attr("reason", f"{reason}; see {self.folder / LOG_FILE}")
                self._tell(TrialState.FAIL, None, None)
        else:
            best = _best(values, self.plan.mode)
            # Before the trial counts as finished: a search that is killed comes to a finished trial no more.
            self._remove_checkpoints()
            with together(self.study):
                self._tell(TrialState.COMPLETE, best.value, best.iteration)
        return True

    def _tell(self, state: TrialState, value: float | None, iteration: int | None) -> None:
        self.trial.set_user_attr("iteration", iteration)
        self.study.tell(self.trial.number, value, state=state)
        self.state = state

    def _remove_checkpoints(self) -> None:
        if not self.keep_checkpoints:
            remove_checkpoints(self.folder)

    def _frozen(self) -> FrozenTrial:
        return self.study.trials[self.trial.number]


def _best(evaluations: Sequence[LoggedEvaluation], mode: str) -> LoggedEvaluation:
    """The first of the best, as ``BestAndEarlyStop`` keeps it."""
    return (max if mode == "max" else min)(evaluations, key=lambda evaluation: evaluation.value)


def _print_outcome(ended: RunningTrial, number: int, trials: int) -> None:
    frozen = ended._frozen()
    value = "" if frozen.value is None else f", {ended.plan.metric} {frozen.value:.4f}"
    print(f"trial {frozen.number} {ended.state.name.lower()}{value} ({number} of {trials} trials begun)", flush=True)
