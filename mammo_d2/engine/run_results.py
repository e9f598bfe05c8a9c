"""Reading back what a training logged and its evaluations found.

metrics.json                                 one JSON object per line: iteration, losses, learning rate, ...
inference/<data set>/metrics.json            {task: {metric: value}}
inference/<data set>/<task>.json             options in force, reasons for undefined values
inference/<data set>/coco_instances_results.json    boxes, of the evaluators "coco" and "froc"
inference/<data set>/top_regions.json, response_maps.npz   of the evaluator "regions"
inference/<data set>/lesion_scores.json      of the evaluator "lesion"
inference/<data set>/*.png                   curves

Where these lie in a run's folder is in ``run_folder.py``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammo_d2.core.files import read_json
from mammo_d2.engine.run_folder import METRICS_FILE, SCALARS_FILE, inference_folders
from mammo_d2.evaluation.files.results import LESION_SCORES_FILE, MAPS_FILE, REGIONS_FILE, RESULTS_FILE

# The evaluator that draws a curve, by the name of its file.
CURVE_OF = {"froc": "froc", "froc_classified": "froc_classified", "roc": "patient", "tnr_fnr": "lesion"}


@dataclass(frozen=True)
class TaskResult:
    """Numbers of one evaluator.

    Attributes:
        numbers: by key, NaN where undefined.
        reasons: why, by key.
        options: what was in force, in words.
        intervals: (low, high) by key, where there are any.
        interval_words: what kind of intervals these are.
    """

    numbers: Mapping[str, float]
    reasons: Mapping[str, str]
    options: str
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    interval_words: str = ""


@dataclass(frozen=True)
class DatasetResult:
    """The evaluation on one data set.

    Attributes:
        name: registered name of the data set.
        tasks: by evaluator.
        predictions: COCO results in prepared pixels; None where they were not written.
        pictures: PNG files by name without ending, e.g. "froc".
        regions: COCO results of the best regions of each class, in prepared pixels; None where they were not written.
        maps: file of the response maps by image id; None where there is none.
        lesions: entries of the lesions' malignancy (see ``lesion_entry``); None where they were not written.
    """

    name: str
    tasks: Mapping[str, TaskResult]
    predictions: list[dict[str, Any]] | None
    pictures: Mapping[str, bytes]
    regions: list[dict[str, Any]] | None = None
    maps: Path | None = None
    lesions: list[dict[str, Any]] | None = None


def read_evaluations(folder: str | os.PathLike) -> list[DatasetResult]:
    """The evaluations in a folder, by name of the data set.

    Raises:
        ValueError: a file that is damaged.
    """
    return [read_dataset_result(path) for path in inference_folders(folder)]


def read_scalars(folder: str | os.PathLike) -> list[dict[str, float]]:
    """The log of the training in a folder, one entry per logged iteration, rising; empty where there is none.

    The writer puts scalars of different iterations on lines of their own, in any order. A run that was resumed or
    started again appends: from its first iteration on it replaces the older lines. A last line that was cut off by a
    kill is left out.

    Raises:
        ValueError: a line that is not a JSON object with an iteration.
    """
    path = Path(folder) / SCALARS_FILE
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    entries: dict[int, dict[str, float]] = {}
    newest = -1
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            iteration = entry["iteration"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}: line {number} is not a JSON object with an iteration: {line[:80]!r}") from error
        if "total_loss" in entry:
            if iteration <= newest:
                entries = {known: value for known, value in entries.items() if known < iteration}
            newest = iteration
        entries.setdefault(iteration, {}).update(entry)
    return [entries[iteration] for iteration in sorted(entries)]


def read_dataset_result(folder: str | os.PathLike) -> DatasetResult:
    """Read the evaluation of one data set from ``inference/<data set>``.

    Raises:
        ValueError: a file that is not JSON of the expected form.
    """
    folder = Path(folder)
    results = _load(folder / METRICS_FILE, {})
    tasks = {}
    for task, numbers in results.items():
        if not isinstance(numbers, Mapping):
            raise ValueError(f"{folder / METRICS_FILE}: {task!r} must be an object of numbers, not {numbers!r:.80}")
        details = _load(folder / f"{task}.json", {})
        tasks[task] = TaskResult(
            {key: math.nan if value is None else float(value) for key, value in numbers.items()},
            details.get("reasons", {}),
            details.get("options", ""),
            *_intervals(details),
        )
    # Other evaluators may have left their curves here in an earlier evaluation.
    pictures = {
        path.stem: path.read_bytes()
        for path in sorted(folder.glob("*.png"))
        if path.stem not in CURVE_OF or CURVE_OF[path.stem] in tasks
    }
    maps = folder / MAPS_FILE
    return DatasetResult(
        folder.name,
        tasks,
        _load(folder / RESULTS_FILE, None),
        pictures,
        _load(folder / REGIONS_FILE, None),
        maps if maps.is_file() else None,
        _load(folder / LESION_SCORES_FILE, None),
    )


def _intervals(details: Mapping[str, Any]) -> tuple[dict[str, tuple[float, float]], str]:
    """Bootstrap intervals, DeLong's for an AUC without one; undefined ones left out. And what kind they are."""
    known: dict[str, tuple[float, float]] = {}
    words: list[str] = []
    kinds = (
        ("intervals", details.get("bootstrap", "")),
        (
            "delong_intervals",
            "confidence intervals of the AUC by DeLong's method, grouped by patient",
        ),
    )
    for kind, meaning in kinds:
        new = {
            key: (limits[0], limits[1])
            for key, limits in (details.get(kind) or {}).items()
            if None not in limits and key not in known
        }
        known |= new
        words += [meaning] if new else []
    return known, "; ".join(words)


def _load(path: Path, default: Any) -> Any:
    """Content of a JSON file of ``default``'s type (a list for None), or ``default`` where there is no file."""
    if not path.is_file():
        return default
    content = read_json(path, remedy="evaluate the run again")
    wanted = list if default is None else dict
    if not isinstance(content, wanted):
        raise ValueError(f"{path}: must hold a JSON {'array' if wanted is list else 'object'}; evaluate the run again")
    return content
