"""Reading back what a training logged and its evaluations found.

metrics.json                                 one JSON object per line: iteration, losses, learning rate, ...
inference/<data set>/metrics.json            {task: {metric: value}}
inference/<data set>/<task>.json             options in force, reasons for undefined values
inference/<data set>/coco_instances_results.json    boxes, of the evaluators "coco" and "froc"
inference/<data set>/top_regions.json, response_maps.npz   of the evaluator "regions"
inference/<data set>/lesion_scores.json      of the evaluator "lesion"
inference/<data set>/image_scores.json       of the evaluator "image"
inference/<data set>/*.png                   curves

Where these lie in a run's folder is in ``run_folder.py``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mammo_d2.core.files import read_json, read_text
from mammo_d2.engine.run_files.run_folder import METRICS_FILE, SCALARS_FILE, inference_folders
from mammo_d2.evaluation.files.results import (
    IMAGE_SCORES_FILE,
    LESION_SCORES_FILE,
    MAPS_FILE,
    REGIONS_FILE,
    RESULTS_FILE,
)

# The evaluators that write a file of predictions; others may have left theirs in an earlier evaluation.
WRITERS = {
    RESULTS_FILE: ("coco", "froc", "froc_classified"),
    REGIONS_FILE: ("regions",),
    MAPS_FILE: ("regions",),
    LESION_SCORES_FILE: ("lesion",),
    IMAGE_SCORES_FILE: ("image",),
}
# Evaluators of the package that write no boxes. Of those of other code it is not known.
_WITHOUT_BOXES = ("patient", "image", "saliency", "regions", "lesion", "voc")

_FORMS = {"image_id": "a number or text", "bbox": "four finite numbers", "truth": "1, 0 or null"}

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
        image_scores: file of the image scores; None where there is none.
    """

    name: str
    tasks: Mapping[str, TaskResult]
    predictions: list[dict[str, Any]] | None
    pictures: Mapping[str, bytes]
    regions: list[dict[str, Any]] | None = None
    maps: Path | None = None
    lesions: list[dict[str, Any]] | None = None
    image_scores: Path | None = None


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
    lines = read_text(path).splitlines()
    entries: dict[int, dict[str, float]] = {}
    newest = -1
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
            iteration = entry["iteration"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            if number == len(lines):
                break
            raise ValueError(f"{path}: line {number} is not a JSON object with an iteration: {line[:80]!r}") from error
        for key, value in entry.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)) or _is_too_large(value):
                raise ValueError(f"{path}: line {number}: {key} = {value!r:.80}: must be a number; correct the line")
        if not isinstance(iteration, int) or not 0 <= iteration < 10**12:
            raise ValueError(f"{path}: line {number}: iteration = {iteration!r:.80}: must be a whole number from 0 on")
        if "total_loss" in entry:
            if iteration <= newest:
                entries = {known: value for known, value in entries.items() if known < iteration}
            newest = iteration
        entries.setdefault(iteration, {}).update(entry)
    return [entries[iteration] for iteration in sorted(entries)]


def read_dataset_result(folder: str | os.PathLike) -> DatasetResult:
    """Read the evaluation of one data set from ``inference/<data set>``.

    Predictions that none of its evaluators writes are of an earlier evaluation, and left out.

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
        place = f"{folder / METRICS_FILE}: {task}"
        reasons = details.get("reasons", {})
        tasks[task] = TaskResult(
            {key: _number(value, f"{place}/{key}") for key, value in numbers.items()},
            {str(key): str(why) for key, why in reasons.items()} if isinstance(reasons, Mapping) else {},
            str(details.get("options", "")),
            *_intervals(details, folder / f"{task}.json"),
        )
    # Other evaluators may have left their curves here in an earlier evaluation.
    pictures = {
        path.stem: path.read_bytes()
        for path in sorted(folder.glob("*.png"))
        if path.stem not in CURVE_OF or CURVE_OF[path.stem] in tasks
    }

    def is_of(name: str) -> bool:
        unknown = name == RESULTS_FILE and not set(tasks) <= set(_WITHOUT_BOXES)
        return not tasks or unknown or bool(set(WRITERS[name]) & set(tasks))

    def entries(name: str, keys: Sequence[str]) -> list[dict[str, Any]] | None:
        return _entries(folder / name, keys) if is_of(name) else None

    def there(name: str) -> Path | None:
        return folder / name if (folder / name).is_file() and is_of(name) else None

    return DatasetResult(
        folder.name,
        tasks,
        entries(RESULTS_FILE, ("image_id", "category_id", "bbox", "score")),
        pictures,
        entries(REGIONS_FILE, ("image_id", "category_id", "bbox", "score")),
        there(MAPS_FILE),
        entries(LESION_SCORES_FILE, ("image_id", "annotation_id", "bbox", "malignancy", "truth")),
        there(IMAGE_SCORES_FILE),
    )


def _is_too_large(value: float) -> bool:
    """Whether a whole number does not fit into a float; infinity does."""
    return isinstance(value, int) and abs(value) > 10**300


def _number(value: Any, place: str) -> float:
    """A metric, NaN for null; raises ValueError for what is none."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)) or _is_too_large(value):
        raise ValueError(f"{place} = {value!r:.80}: must be a number or null; evaluate the run again")
    return float(value)


def _entries(path: Path, keys: Sequence[str]) -> list[dict[str, Any]] | None:
    """Entries of a file of predictions that have ``keys``, of the right types; None where there is no file."""
    content = _load(path, None)
    for number, entry in enumerate(content or ()):
        problem = None if isinstance(entry, dict) else "must be an object"
        windows = entry.get("windows") if problem is None and "malignancy" in keys else []
        if problem is None and not (isinstance(windows, list) and all(_is_window(window) for window in windows)):
            problem = f"windows = {windows!r:.80}: must be objects with bbox and malignancy"
        for key in keys if problem is None else ():
            value = entry.get(key)
            numbers = value if key == "bbox" and isinstance(value, list) else [value]
            right = all(isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e12 for n in numbers)
            if key == "image_id":
                right = isinstance(value, (int, str)) and not isinstance(value, bool)
            if key == "truth":
                right = key in entry and (value is None or (not isinstance(value, bool) and value in (0, 1)))
            if not right or (key == "bbox" and len(numbers) != 4):
                found = f"{key} = {value!r:.80}" if key in entry else f"{key} is missing"
                problem = problem or f"{found}: must be {_FORMS.get(key, 'a finite number')}"
        if problem:
            raise ValueError(f"{path}: entry {number}: {problem}; evaluate the run again")
    return content


def _is_window(value: Any) -> bool:
    """Whether a value is a window of a lesion: its box and its malignancy."""
    box = value.get("bbox") if isinstance(value, dict) else None
    numbers = [*box, value.get("malignancy")] if isinstance(box, list) else []
    return len(numbers) == 5 and all(
        isinstance(n, (int, float)) and not isinstance(n, bool) and abs(n) < 1e12 for n in numbers
    )


def _intervals(details: Mapping[str, Any], path: Path) -> tuple[dict[str, tuple[float, float]], str]:
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
        found = details.get(kind) or {}
        pairs = found.values() if isinstance(found, Mapping) else (None,)
        if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            raise ValueError(f"{path}: {kind} = {found!r:.80}: must be pairs of numbers; evaluate the run again")
        new = {
            key: (_number(pair[0], f"{path}: {kind}/{key}"), _number(pair[1], f"{path}: {kind}/{key}"))
            for key, pair in found.items()
            if None not in pair and key not in known
        }
        known |= new
        words += [str(meaning)] if new else []
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
