"""Any metric of a study by subgroup, with intervals, and tests whether it differs between them."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_bytes_atomic
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.subgroup_columns import SubgroupSplit
from mammo_d2.evaluation.metrics.bootstrap import Interval, Statistic, bootstrap, estimate, percentile_interval
from mammo_d2.evaluation.metrics.heterogeneity import Heterogeneity, heterogeneity_test, holm
from mammo_d2.evaluation.metrics.scores.levels import aggregate_truth, combine_truth, positive_labels
from mammo_d2.evaluation.study.run_study import prepare_system
from mammo_d2.evaluation.study.study import LEVELS, StudyOptions, System

#: Name of the subgroup of unknown value; it takes no part in the tests.
UNKNOWN_VALUE = "unknown"


@dataclass(frozen=True)
class SubgroupValue:
    """One metric of a system in a subgroup of ``images`` images of ``patients`` patients, or of ``lesions`` lesions
    among all images (None where the column is of images)."""

    system: str
    column: str
    subgroup: str
    metric: str
    images: int
    patients: int
    lesions: int | None
    value: float
    interval: Interval


@dataclass(frozen=True)
class SubgroupTest:
    """Whether a metric of a system, or the difference of two ("b - a"), differs between the subgroups of a column.
    ``p_holm`` is corrected for all tests of this system or pair."""

    system: str
    column: str
    metric: str
    result: Heterogeneity
    p_holm: float


@dataclass(frozen=True)
class SubgroupStudy:
    """Values of all subgroups, and tests of all columns."""

    values: list[SubgroupValue]
    tests: list[SubgroupTest]


class _OfPatients:
    """A statistic on some patients, who are numbered anew there, for the weights of all."""

    def __init__(self, statistic: Statistic, patients: np.ndarray) -> None:
        self.keys = statistic.keys
        self._statistic, self._patients = statistic, patients

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        return self._statistic.replicate(weights[self._patients])


def default_metrics(truth: GroundTruth, systems: Sequence[System], splits: Sequence[SubgroupSplit]) -> list[str]:
    """Mean FROC sensitivity of each class where all systems have boxes; AUC, sensitivity and specificity of images and
    AUC of patients where a column is of images."""
    names = []
    if all(system.detections is not None for system in systems):
        names += [f"froc/{name}/mean_sens" for name in truth.images.classes]
    if any(not split.of_lesions for split in splits):
        names += ["image/auc", "image/sensitivity", "image/specificity", "patient/auc"]
    return names


def run_subgroups(
    truth: GroundTruth,
    systems: Sequence[System],
    options: StudyOptions,
    splits: Sequence[SubgroupSplit],
    metrics: Sequence[str] = (),
    progress: Callable[[int], None] | None = None,
) -> SubgroupStudy:
    """Compute metrics in subgroups; every subgroup and system sees the same bootstrap draws.

    A column of images keeps the images of a subgroup with all that is on them. A column of lesions keeps all images,
    and findings of the other subgroups may be hit without counting: only FROC and AP have meaning there.

    Args:
        truth: the ground truth.
        systems: at least one.
        options: as for ``run_study``.
        splits: the columns.
        metrics: names as in metrics.json, "froc/malignant/sens@1"; empty: ``default_metrics``.
        progress: called with the number of replicates done.

    Raises:
        ValueError: a metric that a system does not have.
    """
    names = list(metrics) or default_metrics(truth, systems, splits)
    positive = positive_labels(truth.images.classes, options.positive_classes)
    case_truth = combine_truth(truth.images.truth[:, positive])
    patients = int(truth.images.patient.max(initial=-1)) + 1
    statistics: dict[str, Statistic] = {}
    # System, column, subgroup (-1: unknown), metric; its statistic and the row there.
    cells: list[tuple[int, SubgroupSplit, int, str, str, int]] = []
    sizes: dict[tuple[str, int], tuple[int, int, int | None]] = {}
    for split in splits:
        for member in (*range(len(split.names)), -1):
            chosen = split.group == member
            if not chosen.any():
                continue
            part_truth, keep, members = _part_of_truth(truth, split, chosen)
            count = int(chosen.sum()) if split.of_lesions else None
            sizes[split.column, member] = (len(part_truth.images), len(members), count)
            for number, system in enumerate(systems):
                part = _part_of_system(system, keep)
                work = prepare_system(part_truth, part, options, positive, case_truth[keep])
                for metric in names:
                    task, _, key = metric.rpartition("/")
                    if split.of_lesions and task in LEVELS:
                        continue
                    if task not in work.statistics or key not in work.number_keys(task):
                        known = [f"{t}/{k}" for t in work.statistics for k in work.number_keys(t)]
                        raise ValueError(
                            f"metric {metric!r}: system {system.name!r} has none of that name; it has "
                            f"{', '.join(known[:40])}"
                        )
                    place = f"{split.column}:{member}:{number}:{task}"
                    if place not in statistics:
                        statistics[place] = _OfPatients(work.statistics[task], members)
                    row = list(work.number_keys(task)).index(key)
                    cells.append((number, split, member, metric, place, row))
    strata = np.nan_to_num(aggregate_truth(case_truth, truth.images.patient), nan=2.0)
    drawn = bootstrap(statistics, patients, options.plan, strata, progress)
    estimates = {place: estimate(statistic, patients) for place, statistic in statistics.items()}
    values = []
    found: dict[tuple[int, str, str], dict[int, tuple[float, np.ndarray]]] = {}
    for number, split, member, metric, place, row in cells:
        value, replicates = float(estimates[place][row]), drawn[place][row]
        interval = percentile_interval(replicates, options.plan.confidence)
        subgroup = UNKNOWN_VALUE if member < 0 else split.names[member]
        size = sizes[split.column, member]
        values.append(SubgroupValue(systems[number].name, split.column, subgroup, metric, *size, value, interval))
        if member >= 0:
            found.setdefault((number, split.column, metric), {})[member] = value, replicates
    return SubgroupStudy(values, _tests(systems, found))


def _tests(
    systems: Sequence[System], found: dict[tuple[int, str, str], dict[int, tuple[float, np.ndarray]]]
) -> list[SubgroupTest]:
    """Tests of every system, and of every difference from the first one, corrected within each."""
    families: dict[str, list[tuple[str, str, Heterogeneity]]] = {}
    for (number, column, metric), groups in found.items():
        values = np.array([value for value, _ in groups.values()])
        replicates = np.stack([drawn for _, drawn in groups.values()])
        families.setdefault(systems[number].name, []).append((column, metric, heterogeneity_test(values, replicates)))
        first = found.get((0, column, metric))
        if number and first is not None:
            base = np.array([first[member][0] for member in groups])
            drawn = np.stack([first[member][1] for member in groups])
            name = f"{systems[number].name} - {systems[0].name}"
            result = heterogeneity_test(values - base, replicates - drawn)
            families.setdefault(name, []).append((column, metric, result))
    tests = []
    for name, results in families.items():
        corrected = holm([result.p for _, _, result in results])
        for (column, metric, result), p in zip(results, corrected.tolist(), strict=True):
            tests.append(SubgroupTest(name, column, metric, result, p))
    return tests


def _part_of_truth(
    truth: GroundTruth, split: SubgroupSplit, chosen: np.ndarray
) -> tuple[GroundTruth, np.ndarray, np.ndarray]:
    """The ground truth of a subgroup, (N,) bool which images it keeps, and the numbers of its patients."""
    images, lesions = truth.images, truth.lesions
    if split.of_lesions:
        part = replace(truth, lesions=replace(lesions, ignore=lesions.ignore | ~chosen), notes={})
        return part, np.ones(len(images), bool), np.arange(int(images.patient.max(initial=-1)) + 1)
    rows = np.flatnonzero(chosen)
    members, patient = np.unique(images.patient[rows], return_inverse=True)
    kept = replace(
        images,
        ids=tuple(images.ids[row] for row in rows),
        patient=patient,
        exam=np.unique(images.exam[rows], return_inverse=True)[1],
        breast=np.unique(images.breast[rows], return_inverse=True)[1],
        truth=images.truth[rows],
        size=images.size[rows],
        spacing=images.spacing[rows],
        patient_known=images.patient_known[rows],
    )
    number = np.cumsum(chosen) - 1
    mine = lesions.take(chosen[lesions.image])
    return replace(truth, images=kept, lesions=replace(mine, image=number[mine.image]), notes={}), chosen, members


def _part_of_system(system: System, keep: np.ndarray) -> System:
    detections, scores = system.detections, system.image_scores
    if detections is not None:
        mine = detections.take(keep[detections.image])
        detections = replace(mine, image=(np.cumsum(keep) - 1)[mine.image])
    return System(system.name, detections, None if scores is None else scores[keep])


def subgroups_text(study: SubgroupStudy) -> str:
    """Tables for the console."""
    cells = [
        [v.system, v.column, v.subgroup, v.metric, v.images if v.lesions is None else v.lesions, _shown(v)]
        for v in study.values
    ]
    tests = [[t.system, t.column, t.metric, _p(t.result.p), _p(t.p_holm), t.result.reason] for t in study.tests]
    return "\n".join(
        [
            tabulate(cells, ["system", "column", "subgroup", "metric", "images or lesions", "value"]),
            "",
            tabulate(tests, ["system", "column", "metric", "p (subgroups alike)", "p (Holm)", ""]),
        ]
    )


def _shown(value: SubgroupValue) -> str:
    if np.isnan(value.value):
        return "n/a"
    limits = "" if np.isnan(value.interval.low) else f" ({value.interval.low:.3f}, {value.interval.high:.3f})"
    return f"{value.value:.3f}{limits}"


def _p(p: float) -> str:
    return "n/a" if np.isnan(p) else f"{p:.4f}"


def write_subgroups(study: SubgroupStudy, folder: str | os.PathLike) -> list[Path]:
    """Write subgroups.csv and subgroup_tests.csv; undefined numbers are empty."""
    values = [
        [
            *(v.system, v.column, v.subgroup, v.metric, v.images, v.patients, "" if v.lesions is None else v.lesions),
            *(_cell(number) for number in (v.value, v.interval.low, v.interval.high)),
        ]
        for v in study.values
    ]
    tests = [
        [
            *(t.system, t.column, t.metric, _cell(t.result.statistic), t.result.degrees),
            *(_cell(t.result.p), _cell(t.p_holm), t.result.reason),
        ]
        for t in study.tests
    ]
    header = ["system", "column", "subgroup", "metric", "images", "patients", "lesions", "value", "low", "high"]
    paths = [_write(Path(folder) / "subgroups.csv", header, values)]
    header = ["system", "column", "metric", "chi_squared", "degrees", "p", "p_holm", "reason"]
    return [*paths, _write(Path(folder) / "subgroup_tests.csv", header, tests)]


def _cell(value: float) -> str:
    return "" if np.isnan(value) else repr(float(value))


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence]) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(header)
    writer.writerows(rows)
    write_bytes_atomic(path, text.getvalue().encode("utf-8"))
    return path
