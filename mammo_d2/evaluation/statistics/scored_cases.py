"""Cases of one level with a system's scores, from result files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.files.box_tables import load_image_scores
from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.detection_files import load_detections
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.scores.levels import (
    LevelCases,
    aggregate_truth,
    combine_truth,
    level_cases,
    max_box_scores,
    positive_labels,
    undefined_reason,
)
from mammo_d2.evaluation.metrics.tables import DetectionTable


@dataclass(frozen=True)
class CaseRule:
    """What a case is: ``level`` (image, breast, exam or patient), ``aggregation`` of its images' scores (max or mean;
    of boxes always max), and ``positive_classes`` (empty: malignant, or all)."""

    level: str = "patient"
    aggregation: str = "max"
    positive_classes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"cases: {self.level}s, scores combined by {self.aggregation}"


@dataclass(frozen=True)
class ScoredSystem:
    """A system's cases, and its detections where it has any."""

    name: str
    cases: LevelCases
    detections: DetectionTable | None = None


@dataclass(frozen=True)
class Resampling:
    """The bootstrap of a ground truth: ``patients`` M, ``strata`` (M,) positive or not, ``clusters`` patients of the
    rarer kind, and the plan."""

    patients: int
    strata: np.ndarray
    clusters: int
    plan: BootstrapPlan


def case_truth(truth: GroundTruth, rule: CaseRule) -> np.ndarray:
    """(N,) truth of the images: 1, 0, or NaN if unknown."""
    return combine_truth(truth.images.truth[:, positive_labels(truth.images.classes, rule.positive_classes)])


def load_system(
    truth: GroundTruth,
    name: str,
    rule: CaseRule,
    *,
    results: os.PathLike | None = None,
    scores: os.PathLike | None = None,
) -> ScoredSystem:
    """Read COCO results, image scores, or both (then the image scores are the cases').

    Raises:
        ResultsError: files that cannot be read, or no positive or no negative case.
        ValueError: neither file.
    """
    detections = None if results is None else load_detections(results, truth)[0]
    positive = positive_labels(truth.images.classes, rule.positive_classes)
    how = rule.aggregation
    if scores is not None:
        values = load_image_scores(scores, truth)[:, positive]
        best = np.max(values, axis=1, initial=-np.inf, where=~np.isnan(values))
        best[np.isneginf(best)] = np.nan
    elif detections is not None:
        best, how = max_box_scores(detections, len(truth.images), positive), "max"
    else:
        raise ValueError(f"system {name!r} has neither detections nor image scores")
    cases = level_cases(truth.images, case_truth(truth, rule), best, rule.level, how)
    if reason := undefined_reason(cases):
        raise ResultsError(f"{scores or results}: {rule.level}s: {reason}")
    return ScoredSystem(name, cases, detections)


def resampling_of(truth: GroundTruth, rule: CaseRule, plan: BootstrapPlan) -> Resampling:
    """How to resample the patients of a ground truth; those of unknown truth are a stratum of their own."""
    patient = truth.images.patient
    strata = np.nan_to_num(aggregate_truth(case_truth(truth, rule), patient), nan=2.0)
    clusters = int(min((strata == 1).sum(), (strata == 0).sum()))
    return Resampling(int(patient.max(initial=-1)) + 1, strata, clusters, plan)


def check_same_cases(systems: Sequence[ScoredSystem]) -> None:
    """Raise if the systems score different cases: a paired comparison needs the same ones.

    Raises:
        ResultsError: names the two systems and their numbers of cases.
    """
    first = systems[0]
    for other in systems[1:]:
        same = len(first.cases.truth) == len(other.cases.truth)
        if not same or not np.array_equal(first.cases.patient, other.cases.patient):
            raise ResultsError(
                f"{first.name} scores {len(first.cases.truth)} cases and {other.name} {len(other.cases.truth)}: a "
                "paired comparison needs scores of the same images from both"
            )
