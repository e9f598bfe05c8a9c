"""From box scores or image scores to decisions about images, breasts, exams and patients (numpy only)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.tables import DetectionTable, ImageTable

NO_BOX_SCORE = 0.0


def max_box_scores(detections: DetectionTable, num_images: int, labels: Sequence[int]) -> np.ndarray:
    """Score of each image = its highest box score among the classes ``labels`` (top-likelihood paper).

    An image without such a box gets 0, or, for detectors that give negative scores, one less than the lowest score,
    so that "no box" always ranks below any box.

    Returns:
        (num_images,) float64.
    """
    chosen = detections.take(np.isin(detections.label, np.asarray(labels)))
    lowest = chosen.scores.min() if len(chosen) else 0.0
    best = np.full(num_images, NO_BOX_SCORE if lowest >= 0 else lowest - 1)
    np.maximum.at(best, chosen.image, chosen.scores)
    return best


def positive_labels(classes: Sequence[str], chosen: Sequence[str]) -> list[int]:
    """Numbers of the classes that make a case positive.

    Raises:
        ValueError: a chosen class that does not exist.
    """
    unknown = [name for name in chosen if name not in classes]
    if unknown:
        raise ValueError(f"positive class {unknown[0]!r} is not evaluated; the classes are {', '.join(classes)}")
    default = ("malignant",) if "malignant" in classes else tuple(classes)
    return [list(classes).index(name) for name in (tuple(chosen) or default)]


def combine_truth(truth: np.ndarray) -> np.ndarray:
    """(n,) truth over several classes (n, K), as ``image_truth.joined_truth``: 1, else NaN (unknown), else 0."""
    positive, unknown = (truth == 1).any(axis=1), np.isnan(truth).any(axis=1)
    return np.where(positive, 1.0, np.where(unknown, np.nan, 0.0))


def aggregate(values: np.ndarray, group: np.ndarray, how: str) -> np.ndarray:
    """One score per group: the "max" or the "mean" over its images (GMIC: mean of CC and MLO; Bakalo: maximum).

    Args:
        values: (N,) scores, NaN where an image has none (it is left out).
        group: (N,) dense group numbers.
        how: "max" or "mean".

    Returns:
        (groups,) float64, NaN for a group without any score.
    """
    number = int(group.max()) + 1 if len(group) else 0
    has = ~np.isnan(values)
    if how == "max":
        out = np.full(number, -np.inf)
        np.maximum.at(out, group[has], values[has])
        return np.where(np.isneginf(out), np.nan, out)
    if how == "mean":
        count = np.bincount(group[has], minlength=number)
        total = np.bincount(group[has], weights=values[has], minlength=number)
        return np.divide(total, count, out=np.full(number, np.nan), where=count > 0)
    raise ValueError(f"aggregation {how!r} is neither max nor mean")


def aggregate_truth(truth: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Truth per group: 1 if any image is positive, else NaN if any image is unknown, else 0."""
    number = int(group.max()) + 1 if len(group) else 0
    positive = np.bincount(group, weights=truth == 1, minlength=number) > 0
    unknown = np.bincount(group, weights=np.isnan(truth), minlength=number) > 0
    return np.where(positive, 1.0, np.where(unknown, np.nan, 0.0))


@dataclass(frozen=True)
class LevelCases:
    """Cases of one level with known truth: ``truth`` (n,) in {0, 1}, ``scores`` (n,), ``patient`` (n,) group
    numbers, and how many cases were masked because their truth is unknown or they have no score."""

    truth: np.ndarray
    scores: np.ndarray
    patient: np.ndarray
    unknown: int
    unscored: int = 0

    def same_as(self, other: LevelCases) -> bool:
        """Whether the cases are the same, in the same order."""
        columns = ((self.truth, other.truth), (self.scores, other.scores), (self.patient, other.patient))
        return all(np.array_equal(a, b) for a, b in columns)


def level_cases(images: ImageTable, truth: np.ndarray, scores: np.ndarray, level: str, how: str = "max") -> LevelCases:
    """Aggregate image truth and scores to a level; cases with unknown truth or without score are left out.

    Args:
        images: the image table.
        truth: (N,) image truth in {0, 1, NaN}.
        scores: (N,) image scores, NaN where an image has none.
        level: "image", "breast", "exam" or "patient".
        how: "max" or "mean" over the images of a group.
    """
    group = images.groups(level)
    case_truth = aggregate_truth(truth, group)
    case_scores = aggregate(scores, group, how)
    patient = np.zeros(len(case_truth), np.int64)
    patient[group] = images.patient
    unknown, unscored = np.isnan(case_truth), np.isnan(case_scores)
    keep = ~unknown & ~unscored
    return LevelCases(
        case_truth[keep], case_scores[keep], patient[keep], int(unknown.sum()), int((unscored & ~unknown).sum())
    )


def undefined_reason(cases: LevelCases) -> str:
    """Why numbers of these cases are undefined, "" if both classes are there."""
    positives = int(cases.truth.sum())
    if not len(cases.truth):
        return "no case with known truth and a score"
    if not positives:
        return "no positive case: sensitivity and areas are undefined"
    if positives == len(cases.truth):
        return "no negative case: specificity and areas are undefined"
    return ""
