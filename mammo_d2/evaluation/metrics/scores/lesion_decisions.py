"""Lesion-level decisions: the score of a lesion from its crops, and the TNR–FNR curve of biopsies avoided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan, percentile_interval, weight_chunks
from mammo_d2.evaluation.metrics.scores.curves import ScoreIndex, ScoreTable, roc_auc, tnr_at_fnr

FNRS = (0.0, 0.01, 0.02, 0.03, 0.05)


def malignancy_of_crops(malignant: np.ndarray, benign: np.ndarray) -> np.ndarray:
    """(n,) probability of malignant given malignant or benign: ``p_m / (p_m + p_b)``, 0.5 where both are 0."""
    total = malignant + benign
    return np.divide(malignant, total, out=np.full(len(total), 0.5), where=total > 0)


def average_over_crops(scores: np.ndarray, lesion: np.ndarray, how: str = "probability") -> np.ndarray:
    """One score per lesion from the scores of its crops.

    Args:
        scores: (n,) in [0, 1].
        lesion: (n,) dense lesion numbers; the crops of all views of a lesion may be pooled.
        how: "probability": the mean (lesion-context paper, 100 crops per lesion); "logit": the mean on the logit
            scale, brought back, in which confident crops weigh more.

    Returns:
        (lesions,) float64, NaN for a lesion without crop.
    """
    if how not in ("probability", "logit"):
        raise ValueError(f"averaging {how!r} is neither probability nor logit")
    values = np.asarray(scores, float)
    if how == "logit":
        clipped = np.clip(values, 1e-12, 1 - 1e-12)
        values = np.log(clipped) - np.log1p(-clipped)
    number = int(lesion.max()) + 1 if len(lesion) else 0
    count = np.bincount(lesion, minlength=number)
    total = np.bincount(lesion, weights=values, minlength=number)
    mean = np.divide(total, count, out=np.full(number, np.nan), where=count > 0)
    return 1 / (1 + np.exp(-mean)) if how == "logit" else mean


def lesion_metrics(table: ScoreTable, fnrs: tuple[float, ...] = FNRS) -> Mapping[str, np.ndarray]:
    """AUC and TNR at each FNR (see ``tnr_at_fnr``), keys ``auc``, ``tnr@fnr0.01`` …"""
    return {"auc": roc_auc(table), **{f"tnr@fnr{fnr:g}": tnr_at_fnr(table, fnr) for fnr in fnrs}}


@dataclass(frozen=True)
class TnrCurve:
    """TNR (benign lesions ruled out) against FNR (malignant lesions missed), with a bootstrap band.

    ``fnr``, ``tnr``, ``low``, ``high`` are (K,) float64; the band is NaN without replicates.
    """

    fnr: np.ndarray
    tnr: np.ndarray
    low: np.ndarray
    high: np.ndarray


def tnr_curve(
    truth: np.ndarray,
    scores: np.ndarray,
    patient: np.ndarray,
    plan: BootstrapPlan,
    fnr: np.ndarray | None = None,
) -> TnrCurve:
    """The curve of Figure 7 of the lesion-context paper: the best TNR with at most FNR of malignant missed.

    In every replicate the threshold is chosen anew, so the band covers the choice of the threshold too; with the
    threshold fixed beforehand use the Wilson interval of the specificity instead.

    Args:
        truth, scores: (n,) per lesion.
        patient: (n,) patient of each lesion, the unit that is resampled.
        plan: the bootstrap.
        fnr: (K,) grid; None is 0, 0.01, …, 1.
    """
    grid = np.linspace(0, 1, 101) if fnr is None else np.asarray(fnr, float)
    index = ScoreIndex(truth, scores)
    numbers, dense = np.unique(patient, return_inverse=True)
    strata = np.zeros(len(numbers), np.int64)
    np.maximum.at(strata, dense, np.asarray(truth, np.int64))
    table = index.table()
    tnr = np.array([float(tnr_at_fnr(table, x)) for x in grid])
    values = [
        np.stack([tnr_at_fnr(replicates, x) for x in grid])
        for replicates in (index.table(w[dense]) for w in weight_chunks(len(numbers), plan, strata))
    ]
    if not values:
        return TnrCurve(grid, tnr, np.full(len(grid), np.nan), np.full(len(grid), np.nan))
    intervals = [percentile_interval(row, plan.confidence) for row in np.concatenate(values, axis=1)]
    return TnrCurve(grid, tnr, np.array([i.low for i in intervals]), np.array([i.high for i in intervals]))
