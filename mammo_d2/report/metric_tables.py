"""Report blocks for evaluation results: a table per evaluator and the meaning of each number in words."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from mammo_d2.engine.run_files.run_results import DatasetResult, TaskResult
from mammo_d2.report.html import DASH, Block, Estimate, Heading, Table, Terms, Text


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        pattern: regular expression of the key without class and level; a group is put into ``heading`` and ``meaning``.
        heading: of the column.
        meaning: in words; empty if the heading is enough.
    """

    pattern: str
    heading: str
    meaning: str = ""


_BOX_METRICS = (
    Metric("AP50", "AP50", "average precision; a box is correct if its overlap (IoU) is at least 0.5; 1 is perfect"),
    Metric("AP", "AP", "the same, averaged over the overlaps 0.50, 0.55, ..., 0.95: rewards exact boxes"),
    Metric("AP75", "AP75", "average precision with an overlap of at least 0.75"),
    Metric("APs", "APs", "AP of small lesions, area below 32² pixels"),
    Metric("APm", "APm", "AP of medium lesions"),
    Metric("APl", "APl", "AP of large lesions, area above 96² pixels"),
    Metric("AR", "AR", "fraction of lesions found when every box is accepted, averaged over the overlaps"),
)
_VOC_METRICS = (
    Metric("AP50", "AP50", "area under the curve of precision and recall; a box is correct if its IoU is above 0.5"),
    Metric("AP50_11", "AP50, 11 points", "mean precision at recalls of 0, 0.1, ..., 1, as in VOC 2007"),
)
_CASE_METRICS = (
    Metric("auc", "AUC", "probability that a positive case has a higher score than a negative one; 0.5 is chance"),
    Metric("sensitivity", "sensitivity", "fraction of positive cases called positive"),
    Metric("specificity", "specificity", "fraction of negative cases called negative"),
    Metric("accuracy", "accuracy", "fraction of cases classified correctly"),
    Metric(
        "pauc_ratio", "pAUC ratio", "area under the ROC curve at high sensitivities, as a fraction of the perfect area"
    ),
    Metric(r"spec@sens(.+)", "spec. at sens. {}", "specificity at the threshold with a sensitivity of {}"),
    Metric(
        r"tnr@fnr(.+)", "TNR at FNR {}", "specificity when at most this fraction of the positive cases is missed: {}"
    ),
    Metric("ap", "AP", "average precision of the cases ranked by score"),
    Metric("pf1", "pF1", "F1 with the scores read as probabilities"),
    Metric("num_(positive|negative|malignant|benign)", "{}"),
    Metric("num_unknown", "unknown", "cases with unknown label; they are counted nowhere else"),
)
_SALIENCY_METRICS = (
    Metric("precision", "precision", "fraction of the map's weight that lies on findings"),
    Metric("recall", "recall", "mean of the map over the findings"),
    Metric("f1", "F1", "harmonic mean of the two, image by image or of the sums, as the options say"),
    Metric("pointing", "pointing game", "fraction of images whose highest value lies in a finding"),
    Metric("num_images", "images"),
    Metric("num_images_dark", "images without saliency"),
)
_REGION_METRICS = (
    Metric(
        r"hit@(.+)",
        "best {}",
        "fraction of the images with a lesion of the class in which one of the best {} regions hits it",
    ),
    Metric("num_images", "images"),
)
_PATIENT_LEVELS = (("patients", ""), ("breasts", "breast_"), ("images", "image_"))
_IMAGE_LEVELS = (("images", ""), ("breasts", "breast_"), ("exams", "exam_"), ("patients", "patient_"))


def evaluation_blocks(result: DatasetResult) -> list[Block]:
    """Tables of every evaluator of a data set, with the options in force and what they mean; known ones first."""
    blocks: list[Block] = []
    order = {task: number for number, task in enumerate(_TABLES)}
    for task, values in sorted(result.tasks.items(), key=lambda item: order.get(item[0], len(order))):
        title, make = _TABLES.get(task, (task, _any_table))
        blocks += [Heading(title), *make(values)]
        if values.interval_words:
            blocks.append(Text(f"Below the numbers: {values.interval_words}.", small=True))
        if values.options:
            blocks.append(Text(f"Options in force: {values.options}.", small=True))
        blocks += [
            Text(f"Undefined ({DASH}): {reason}.", small=True) for reason in sorted(set(values.reasons.values()))
        ]
    return blocks


def headline_numbers(result: DatasetResult) -> list[tuple[float | Estimate, str]]:
    """The numbers to read first, with their names: AP50, sensitivity at one false positive, numbers of patients, images
    and lesions. If there are none of these, the first number of each evaluator."""
    at_one = [key for key in _numbers(result, "froc") if key.endswith("/sens@1")]
    of_images = [key for key in _numbers(result, "image") if key.endswith("/auc")]
    wanted = [
        ("coco", "AP50", "AP50, boxes"),
        *(("froc", key, f"lesions found at 1 false positive per image, {key.split('/')[0]}") for key in at_one),
        ("patient", "auc", "AUC, patients"),
        ("patient", "sensitivity", "sensitivity, patients"),
        ("patient", "specificity", "specificity, patients"),
        *(("image", key, f"AUC, images, {key.split('/')[0]}") for key in of_images),
        ("lesion", "auc", "AUC, lesions"),
        *(("lesion", f"tnr@fnr{rate:g}", f"TNR at FNR {rate:.0%}, lesions") for rate in (0, 0.02, 0.05)),
    ]
    found = [(task, key, name) for task, key, name in wanted if key in _numbers(result, task)]
    if not found:
        found = [(task, key, f"{task}: {key}") for task in result.tasks for key in list(_numbers(result, task))[:1]]
    return [(_value(result.tasks[task], key), name) for task, key, name in found]


def _numbers(result: DatasetResult, task: str) -> Mapping[str, float]:
    return result.tasks[task].numbers if task in result.tasks else {}


def _value(values: TaskResult, key: str) -> float | Estimate:
    """A number, with its interval if there is one. Counts, which are stored as floats, become integers."""
    number = values.numbers.get(key, math.nan)
    if math.isfinite(number) and re.search(r"(^|[/_])num_", key):
        return int(number)
    limits = values.intervals.get(key)
    return number if limits is None or math.isnan(number) else Estimate(number, *limits)


def _metric_blocks(
    values: TaskResult, first: str, rows: Sequence[tuple[str, str]], metrics: Iterable[Metric]
) -> list[Block]:
    """A table of the metrics found, and what they mean.

    Args:
        values: the numbers.
        first: heading of the first column.
        rows: (name, prefix of the keys) of each row; rows without any number are left out.
        metrics: columns in order; a pattern that several keys match gives several columns.
    """
    columns: dict[str, tuple[str, str]] = {}
    for metric in metrics:
        for _, prefix in rows:
            for key in values.numbers:
                match = re.fullmatch(metric.pattern, key.removeprefix(prefix)) if key.startswith(prefix) else None
                if match:
                    columns[match.group()] = (
                        metric.heading.format(*match.groups()),
                        metric.meaning.format(*match.groups()),
                    )
    if not columns:
        return _any_table(values)
    present = [(name, prefix) for name, prefix in rows if any(prefix + key in values.numbers for key in columns)]
    table = Table(
        [first, *(heading for heading, _ in columns.values())],
        [[name, *(_value(values, prefix + key) for key in columns)] for name, prefix in present],
    )
    return [table, Terms([(heading, meaning) for heading, meaning in columns.values() if meaning])]


def _class_names(values: TaskResult) -> list[str]:
    """Classes that keys like ``<class>/<metric>`` name, in order."""
    return list(dict.fromkeys(key.rsplit("/", 1)[0] for key in values.numbers if "/" in key))


def _box_blocks(metrics: Sequence[Metric], values: TaskResult) -> list[Block]:
    classes = [(name, f"{name}/") for name in _class_names(values)]
    # The row of a single class would repeat the first one.
    rows = [("all classes", ""), *(classes if len(classes) > 1 else [])]
    return _metric_blocks(values, "class", rows, metrics)


def _froc_blocks(values: TaskResult) -> list[Block]:
    numbers = values.numbers
    rates = list(dict.fromkeys(key.split("sens@")[1] for key in numbers if "/sens@" in key))
    rows: list[list[str | float | Estimate | None]] = []
    for name in _class_names(values):
        counts = [f"{value:.0f} {key.split('/num_')[1]}" for key, value in numbers.items() if f"{name}/num_" in key]
        found = [_value(values, f"{name}/sens@{rate}") for rate in rates]
        rows.append([f"{name} ({', '.join(counts)}): sensitivity", _value(values, f"{name}/mean_sens"), *found])
        thresholds = [numbers.get(f"{name}/threshold@{rate}", math.nan) for rate in rates]
        rows.append([f"{name}: score threshold", None, *thresholds])
    terms = [
        ("sensitivity", "fraction of lesions found at this number of false positives per image"),
        ("score threshold", "the lowest score accepted at that rate; ∞: no box may be accepted"),
        ("mean", "mean of the sensitivities at the rates that the options name"),
    ]
    return [Table(["at false positives per image", "mean", *rates], rows), Terms(terms)]


def _patient_blocks(values: TaskResult) -> list[Block]:
    return _metric_blocks(values, "cases", _PATIENT_LEVELS, _CASE_METRICS)


def _image_blocks(values: TaskResult) -> list[Block]:
    rows = [
        (f"{name}, {level}", f"{name}/{prefix}") for name in _class_names(values) for level, prefix in _IMAGE_LEVELS
    ]
    return _metric_blocks(values, "cases", rows, _CASE_METRICS)


def _lesion_blocks(values: TaskResult) -> list[Block]:
    return _metric_blocks(values, "cases", [("lesions", "")], _CASE_METRICS)


def _saliency_blocks(values: TaskResult) -> list[Block]:
    return _metric_blocks(values, "class", [(name, f"{name}/") for name in _class_names(values)], _SALIENCY_METRICS)


def _region_blocks(values: TaskResult) -> list[Block]:
    return _metric_blocks(values, "class", [(name, f"{name}/") for name in _class_names(values)], _REGION_METRICS)


def _any_table(values: TaskResult) -> list[Block]:
    return [Table(["metric", "value"], [[key, _value(values, key)] for key in values.numbers])]


_TABLES: Mapping[str, tuple[str, Callable[[TaskResult], list[Block]]]] = {
    "coco": ("Boxes: average precision", partial(_box_blocks, _BOX_METRICS)),
    "voc": ("Boxes: average precision as in VOC", partial(_box_blocks, _VOC_METRICS)),
    "froc": ("Lesions: free-response ROC (FROC)", _froc_blocks),
    "froc_classified": ("FROC in the images that the image scores call positive", _froc_blocks),
    "patient": ("Decisions from boxes: patients, breasts, images", _patient_blocks),
    "image": ("Decisions from image scores", _image_blocks),
    "lesion": ("Lesions: benign or malignant", _lesion_blocks),
    "saliency": ("Saliency maps against findings", _saliency_blocks),
    "regions": ("Weak localisation: do the best regions hit the lesion?", _region_blocks),
}
