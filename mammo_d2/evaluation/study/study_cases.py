"""Per-case output of a study: outcomes of every lesion, detection and image, and counts at thresholds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np

from mammo_d2.evaluation.files.case_files import case_tables, write_cases, write_csv_columns
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.metrics.detection.case_outcomes import ThresholdCounts, case_outcomes, threshold_counts
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_labels
from mammo_d2.evaluation.study.study import System

_COUNTS = [field.name for field in fields(ThresholdCounts)]


def write_study_cases(
    truth: GroundTruth,
    systems: Sequence[System],
    rule: FrocRule,
    folder: str | os.PathLike,
    kind: str,
    thresholds: Sequence[float] = (),
    rates: Sequence[float] | None = None,
) -> list[Path]:
    """Write ``counts.csv`` and, per system with detections, what became of its cases.

    Args:
        truth: the ground truth.
        systems: those without detections are left out.
        rule: how detections and lesions are matched.
        folder: made if missing.
        kind: "csv", "parquet", "npz" or "json" (for a viewer); "" writes the counts only.
        thresholds: scores at which is counted.
        rates: false positives per image at whose threshold is counted; None: the rule's.

    Returns:
        the paths written: counts.csv, cases_<number>_<table>.<kind>; systems are numbered from 1 in their order.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rates = rule.rates if rates is None else rates
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ("system", "class", *_COUNTS)}
    paths = []
    for number, system in enumerate(systems, start=1):
        if system.detections is None:
            continue
        data = truth.data(system.detections)
        outcomes = {}
        for label, name in froc_labels(truth.images.classes):
            cases = case_outcomes(data, rule, label)
            counts = threshold_counts(cases.events, thresholds, rates)
            columns["system"].append(np.full(len(counts.threshold), system.name))
            columns["class"].append(np.full(len(counts.threshold), name))
            for key in _COUNTS:
                columns[key].append(getattr(counts, key))
            if kind and label is not None:
                outcomes[name] = (label, cases)
        if kind:
            paths += write_cases(folder, f"cases_{number}", case_tables(data, outcomes, thresholds), kind)
    if columns["system"]:
        joined = {name: np.concatenate(parts) for name, parts in columns.items()}
        paths.insert(0, write_csv_columns(folder / "counts.csv", joined))
    return paths
