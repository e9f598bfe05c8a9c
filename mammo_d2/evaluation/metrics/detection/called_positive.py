"""Localisation in the images that the classifier calls positive (numpy only)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mammo_d2.evaluation.metrics.scores.curves import score_table, threshold_at_sensitivity
from mammo_d2.evaluation.metrics.scores.levels import combine_truth
from mammo_d2.evaluation.metrics.tables import EvaluationData


def called_positive(
    data: EvaluationData, scores: np.ndarray, label: int | None, sensitivity: float
) -> tuple[np.ndarray, float]:
    """Images that are called positive for a class at the threshold that reaches a sensitivity.

    Args:
        data: images with their truth.
        scores: (N, C) image scores.
        label: class number; None: any class, scored by the highest.
        sensitivity: least part of the images with the class that is called positive.

    Returns:
        (N,) bool, and the threshold; all images and NaN if none has the class.
    """
    truth = combine_truth(data.images.truth) if label is None else data.images.truth[:, label]
    values = scores.max(axis=1, initial=-np.inf) if label is None else scores[:, label]
    known = ~np.isnan(truth)
    threshold = threshold_at_sensitivity(score_table(truth[known], values[known]), sensitivity)
    return (np.ones(len(truth), bool) if np.isnan(threshold) else values >= threshold), threshold


def only_in(data: EvaluationData, chosen: np.ndarray, label: int | None) -> EvaluationData:
    """Keep a class's detections and lesions in the chosen images only; the other images stay, without any.

    Args:
        data: of all images.
        chosen: (N,) bool.
        label: class number; None: every class.
    """

    def kept(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return chosen[image] if label is None else chosen[image] | (labels != label)

    detections, lesions = data.detections, data.lesions
    return replace(
        data,
        detections=detections.take(kept(detections.image, detections.label)),
        lesions=lesions.take(kept(lesions.image, lesions.label)),
    )
