"""Numbers as the challenges' own scripts give them, where those differ from a FROC curve or an AP by the same rule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mammo_d2.evaluation.metrics.bootstrap import Statistic
from mammo_d2.evaluation.metrics.detection.case_outcomes import OUTCOMES, case_outcomes
from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.tables import EvaluationData

POSITIVE_RATES, ALL_RATE = (1.0, 2.0, 3.0, 4.0), 2.0


def dbtex_script(data: EvaluationData, rule: FrocRule, label: int | None) -> dict[str, float]:
    """The results of DBTex's ``evaluate()`` (duke-dbt-data), under its names.

    The script takes operating points only at the scores of detections that hit a lesion (further hits of a lesion
    included), above the highest and below the lowest score, and joins them by straight lines. Between two such points
    all false positives come in before the next lesion is found, so that the line runs above the operating points that
    lie between: no threshold reaches it. The sensitivity of the preset ``dbtex``, which knows every operating point, is
    the sounder one. The script's is never smaller, and is what the challenge reported.

    Args:
        data: images, lesions and detections; the challenge has volumes for images.
        rule: its hit and matching are used; the rates are the challenge's.
        label: class number; None: all classes.

    Returns:
        ``sensitivity_at_2_fps_all``; over images with a lesion ``sensitivity_at_1_fps_positive`` … ``_4_…`` and
        ``mean_sensitivity_positive``; NaN without lesions.
    """
    every = case_outcomes(data, replace(rule, fp_images="all", recall_unit="lesion"), label)
    outcome, image, scores = every.outcome, data.detections.image, data.detections.scores
    names = [f"sensitivity_at_{rate:g}_fps_positive" for rate in POSITIVE_RATES]
    lesions = np.flatnonzero(every.in_class & ~data.lesions.ignore)
    if not len(lesions):
        return dict.fromkeys(["sensitivity_at_2_fps_all", *names, "mean_sensitivity_positive"], float("nan"))
    hits = np.isin(outcome, (OUTCOMES.index("hit"), OUTCOMES.index("extra")))
    false = outcome == OUTCOMES.index("false")
    mine = hits | false
    ends = [scores[mine].max() + 1, scores[mine].min() - 1] if mine.any() else []
    thresholds = np.sort(np.concatenate([scores[hits], ends]))[::-1]
    found = np.sort(every.found_score[lesions])

    def read(false_scores: np.ndarray, images: int, rates: Sequence[float]) -> np.ndarray:
        if not len(thresholds):
            return np.zeros(len(rates))
        fp = len(false_scores) - np.searchsorted(np.sort(false_scores), thresholds, side="left")
        tp = len(found) - np.searchsorted(found, thresholds, side="left")
        fps, tpr = fp / images, tp / len(found)
        # The script ends at the first point beyond the rates.
        beyond = np.flatnonzero(fps > max(rates))
        last = int(beyond[0]) + 1 if len(beyond) else len(fps)
        return np.interp(rates, fps[:last], tpr[:last])

    positive = np.zeros(len(data.images), bool)
    positive[data.lesions.image[lesions]] = True
    at_all = read(scores[false], len(positive), [ALL_RATE])
    at_positive = read(scores[false & positive[image]], int(positive.sum()), POSITIVE_RATES)
    return {
        "sensitivity_at_2_fps_all": float(at_all[0]),
        **dict(zip(names, at_positive.tolist(), strict=True)),
        "mean_sensitivity_positive": float(at_positive.mean()),
    }


class RankingScore:
    """PI-CAI's ranking score, the mean of the AUC of the cases and the lesions' AP (``Metrics.score`` of picai_eval).

    A case of PI-CAI is one examination with one image; here it is an image.

    Args:
        auc: a statistic of the cases with the key "auc".
        ap: a statistic of the lesions; its last key is the AP.
    """

    keys = ("ranking_score",)

    def __init__(self, auc: Statistic, ap: Statistic) -> None:
        self._auc, self._ap = auc, ap
        self._row = list(auc.keys).index("auc")

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(1, b) scores for patient weights (M, b)."""
        return (self._auc.replicate(weights)[self._row] + self._ap.replicate(weights)[-1])[None] / 2
