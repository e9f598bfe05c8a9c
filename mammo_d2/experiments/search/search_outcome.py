"""Results of a search: a table of the trials, the config of the best one, and the list of the best ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from tabulate import tabulate

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import relative_config
from mammo_d2.core.files import atomic_write, write_json
from mammo_d2.engine.run_files.run_folder import CONFIG_FILE, METRICS_FILE, inference_folder
from mammo_d2.engine.run_files.run_record import claim_folders
from mammo_d2.evaluation.files.image_scores import TOP_FILE
from mammo_d2.experiments.processes import run_all, run_job, write_tables
from mammo_d2.experiments.search.search_plan import SearchPlan
from mammo_d2.experiments.search.search_ranges import value_of
from mammo_d2.experiments.search.trial import trial_folder
from mammo_d2.jobs.job import Job, build_job

BEST_FILE = "best.yaml"
# Of the trials in the table: those with a value first.
_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)


def sorted_trials(study: optuna.Study, mode: str) -> list[FrozenTrial]:
    """All trials: the finished ones best first, then the pruned ones, the open ones, the failed ones."""
    sign = -1 if mode == "max" else 1

    def place(trial: FrozenTrial) -> tuple:
        return _ORDER.index(trial.state), 0 if trial.value is None else sign * trial.value, trial.number

    return sorted(study.get_trials(deepcopy=False), key=place)


def write_report(study: optuna.Study, plan: SearchPlan, top: int) -> list[dict[str, Any]]:
    """Write ``search.md``, ``.csv`` and ``.json``, and as soon as a trial has finished ``best.yaml`` and ``top.json``.

    Args:
        study: the study.
        plan: complete.
        top: number of trials in ``top.json``.

    Returns:
        One dict a trial, as in ``search.json``.
    """
    trials = sorted_trials(study, plan.mode)
    rows = []
    for trial in trials:
        drawn = _drawn(plan, trial)
        rows.append(
            {
                "trial": trial.number,
                "value": trial.value,
                "state": trial.state.name.lower(),
                "iteration": trial.user_attrs.get("iteration"),
                **drawn,
                "folder": trial_folder(Path(), trial.number).name,
                "reason": trial.user_attrs.get("reason", ""),
            }
        )
    if rows:
        write_tables(rows, trials_table(rows, plan.metric), plan.output, "search")
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if finished:
        write_best_config(plan, _drawn(plan, finished[0]), finished[0])
        write_json(plan.output / TOP_FILE, [_entry(plan, trial) for trial in finished[:top]])
    return rows


def trials_table(rows: list[dict[str, Any]], metric: str) -> str:
    """The rows as a Markdown table; parameters by the last part of their key where that is enough."""
    keys = [key for key in rows[0] if key != "reason"]
    short = [key.rsplit(".", 1)[-1] for key in keys]
    names = [name if short.count(name) == 1 else key for key, name in zip(keys, short, strict=True)]
    names[keys.index("value")] = metric
    return tabulate([[row[key] for key in keys] for row in rows], names, tablefmt="github", floatfmt=".4g")


def _drawn(plan: SearchPlan, trial: FrozenTrial) -> dict[str, Any]:
    """Values by key; None where a trial was killed before it was drawn."""
    params = trial.params
    return {r.key: r.value(params[r.key]) if r.key in params else None for r in plan.ranges}


def _entry(plan: SearchPlan, trial: FrozenTrial) -> dict[str, Any]:
    folder = trial_folder(plan.output, trial.number)
    return {
        "folder": folder.name,
        "value": trial.value,
        "trial": trial.number,
        "iteration": trial.user_attrs["iteration"],
        "parameters": _drawn(plan, trial),
        "config": f"{folder.name}/{CONFIG_FILE}",
        "weights": str(_job(plan, _drawn(plan, trial)).weights(folder).relative_to(plan.output)),
    }


def _job(plan: SearchPlan, parameters: Mapping[str, Any]) -> Job:
    """The job of a trial."""
    return build_job(load_config(plan.config_file, plan.trial_overrides(dict(parameters))))


def write_best_config(plan: SearchPlan, parameters: Mapping[str, Any], trial: FrozenTrial) -> None:
    """Write ``best.yaml``: the search's config as ``_BASE_`` and what the best trial was trained with."""
    overrides = plan.trial_overrides(dict(parameters))
    cfg = load_config(plan.config_file, overrides)
    content: dict[str, Any] = {}
    if plan.config_file:
        content["_BASE_"] = relative_config(plan.config_file, plan.output)
    # Values as the config has understood them, each key once.
    for key in [*overrides[::2], "OUTPUT_DIR"]:
        *parents, name = key.split(".")
        node = content
        for part in parents:
            node = node.setdefault(part, {})
        node[name] = str(plan.output / "best") if key == "OUTPUT_DIR" else _plain(value_of(cfg, key))
    with atomic_write(plan.output / BEST_FILE, "w") as file:
        file.write(f"# Trains trial {trial.number} again: {plan.metric} {trial.value:.6g} on {cfg.DATASETS.TEST[0]}.\n")
        yaml.safe_dump(content, file, sort_keys=False, default_flow_style=None, width=120)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def evaluate_top(plan: SearchPlan, dataset: str = "", jobs: int = 1) -> list[dict[str, Any]]:
    """Evaluate the best weights of the trials in ``top.json``, and set each entry's ``folder`` to that evaluation.

    The last evaluation of a training itself is of its last weights.

    Args:
        plan: complete.
        dataset: to evaluate on; empty: the validation set.
        jobs: number of parallel evaluations.

    Returns:
        The content of ``top.json``. Each ``folder`` has ``inference/<dataset>`` of that evaluation alone.

    Raises:
        RunConflictError: other data of that name, or another model, were evaluated before.
        ChildProcessError: an evaluation failed; its log is named.
    """
    path = plan.output / TOP_FILE
    entries = yaml.safe_load(path.read_text())
    cfg = load_config(plan.config_file, list(plan.overrides))
    dataset = dataset or cfg.DATASETS.TEST[0]
    evaluations, claims = [], {}
    for entry in entries:
        entry["trial_folder"] = entry.get("trial_folder", entry["folder"])
        trial = plan.output / entry["trial_folder"]
        overrides = [*plan.trial_overrides(entry["parameters"]), "DATASETS.TEST", repr((dataset,))]
        planned = _job(plan, entry["parameters"]).result_evaluation(trial, trial / f"best_{dataset}", dataset)
        if planned.needs_weights:
            overrides += ["MODEL.WEIGHTS", str(plan.output / entry["weights"])]
        entry["folder"] = str(planned.results.relative_to(plan.output))
        results = inference_folder(planned.results, dataset)
        if not planned.is_by_training:  # what the training itself evaluates is as old as the training
            claims[results] = load_config(plan.config_file, overrides)
        if not (results / METRICS_FILE).is_file():
            evaluations.append((planned.folder, overrides))
    claim_folders(claims)

    def evaluate(item: tuple[Path, list[str]]) -> None:
        folder, overrides = item
        run_job(folder, f"the evaluation in {folder}", plan.config_file, overrides, jobs, "--eval-only")

    run_all(evaluate, evaluations, jobs)
    write_json(path, entries)
    return entries
