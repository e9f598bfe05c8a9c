"""Report blocks for evaluation results: a table per evaluator and the meaning of each number in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from mammo_d2.export.report import DASH, Block, Heading, Table, Terms, Text
from mammo_d2.export.run_files import DatasetResult, TaskResult

_COCO_COLUMNS = ("AP50", "AP", "AP75", "APs", "APm", "APl", "AR")
_COCO_TERMS = {
    "AP50": "average precision with a box counted right from an overlap (IoU) of 0.5 on; 1 is perfect",
    "AP": "the same, averaged over the overlaps 0.50, 0.55, ..., 0.95: rewards exact boxes",
    "AP75": "average precision from an overlap of 0.75 on",
    "APs, APm, APl": "AP of small (area below 32² pixels), medium and large (above 96² pixels) lesions",
    "AR": "part of the lesions found when every box is accepted, averaged over the overlaps",
}
_DECISION_COLUMNS = ("auc", "sensitivity", "specificity", "accuracy", "num_positive", "num_negative", "num_unknown")
_DECISION_HEADINGS = ("AUC", "sensitivity", "specificity", "accuracy", "positive", "negative", "unknown")
_DECISION_TERMS = {
    "AUC": "probability that a positive case has a higher score than a negative one; 0.5 is chance",
    "sensitivity": "part of the positive cases that are called positive",
    "specificity": "part of the negative cases that are called negative",
    "accuracy": "part of all cases that are called right",
    "unknown": "cases whose truth nobody knows; they are counted nowhere else",
}


def evaluation_blocks(result: DatasetResult) -> list[Block]:
    """Tables of every evaluator of a data set, with the options in force and what the numbers mean."""
    blocks: list[Block] = []
    for task, values in result.tasks.items():
        title, make = _TABLES.get(task, (task, _any_table))
        blocks += [Heading(title), *make(values)]
        if values.options:
            blocks.append(Text(f"Options in force: {values.options}.", small=True))
        blocks += [
            Text(f"Undefined ({DASH}): {reason}.", small=True) for reason in sorted(set(values.reasons.values()))
        ]
    return blocks


def headline_numbers(result: DatasetResult) -> list[tuple[float, str]]:
    """The few numbers to read first, with their names: AP50, sensitivity at one false positive, the patients'."""
    wanted = [
        ("coco", "AP50", "AP50, boxes"),
        *(("froc", key, f"lesions found at 1 false positive per image{_of(key)}") for key in _keys(result, "/sens@1")),
        ("patient", "auc", "AUC, patients"),
        ("patient", "sensitivity", "sensitivity, patients"),
        ("patient", "specificity", "specificity, patients"),
    ]
    return [
        (result.tasks[task].numbers[key], name)
        for task, key, name in wanted
        if task in result.tasks and key in result.tasks[task].numbers
    ]


def _keys(result: DatasetResult, ending: str) -> list[str]:
    return [key for key in result.tasks["froc"].numbers if key.endswith(ending)] if "froc" in result.tasks else []


def _of(key: str) -> str:
    return f", {key.split('/')[0]}"


def _coco_table(values: TaskResult) -> list[Block]:
    numbers = values.numbers
    names = ["", *sorted({key.rsplit("/", 1)[0] + "/" for key in numbers if "/" in key})]
    rows = [
        [name.rstrip("/") or "all classes", *(numbers.get(name + column, math.nan) for column in _COCO_COLUMNS)]
        for name in names
    ]
    # With a single class its row would repeat the first one.
    rows = rows[:1] if len(rows) == 2 and rows[0][1:] == rows[1][1:] else rows
    return [Table(["class", *_COCO_COLUMNS], rows), Terms(list(_COCO_TERMS.items()))]


def _froc_table(values: TaskResult) -> list[Block]:
    numbers = values.numbers
    names = list(dict.fromkeys(key.split("/")[0] for key in numbers))
    rates = list(dict.fromkeys(key.split("sens@")[1] for key in numbers if "/sens@" in key))
    rows = []
    for name in names:
        counts = [f"{int(value)} {key.split('/num_')[1]}" for key, value in numbers.items() if f"{name}/num_" in key]
        mean = numbers.get(f"{name}/mean_sens", math.nan)
        found = [numbers[f"{name}/sens@{rate}"] for rate in rates]
        rows.append([f"{name} ({', '.join(counts)}): sensitivity", mean, *found])
        if f"{name}/threshold@{rates[0]}" in numbers:
            rows.append([f"{name}: score threshold", None, *(numbers[f"{name}/threshold@{rate}"] for rate in rates)])
    terms = [
        ("sensitivity", "part of the lesions found when so many false positives per image are accepted"),
        ("score threshold", "the lowest score accepted there; ∞: no box may be accepted"),
        ("mean", "mean of the sensitivities at the rates that the options name"),
    ]
    return [Table(["at false positives per image", "mean", *rates], rows), Terms(terms)]


def _decision_table(values: TaskResult) -> list[Block]:
    numbers = values.numbers
    rows = [
        [level, *(_count_or_rate(column, numbers.get(prefix + column)) for column in _DECISION_COLUMNS)]
        for level, prefix in (("patients", ""), ("breasts", "breast_"), ("images", "image_"))
        if prefix + "auc" in numbers
    ]
    return [Table(["cases", *_DECISION_HEADINGS], rows), Terms(list(_DECISION_TERMS.items()))]


def _count_or_rate(name: str, value: float | None) -> float | None:
    """Counts come as floats like every metric; in a table they are whole."""
    return int(value) if value is not None and math.isfinite(value) and name.startswith("num_") else value


def _any_table(values: TaskResult) -> list[Block]:
    return [Table(["metric", "value"], [[key, value] for key, value in values.numbers.items()])]


_TABLES: Mapping[str, tuple[str, Callable[[TaskResult], list[Block]]]] = {
    "coco": ("Boxes: average precision", _coco_table),
    "froc": ("Lesions: free-response ROC (FROC)", _froc_table),
    "patient": ("Decisions: patients, breasts, images", _decision_table),
}
