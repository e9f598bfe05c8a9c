"""ROC and precision-recall numbers of binary truth and scores (numpy only), for one data set or many replicates.

Naming: ``n`` cases, ``T`` distinct scores, ``b`` replicates; ``P`` and ``N`` the (weighted) numbers of positive and
negative cases; TPR = sensitivity, FPR = 1 - specificity, TNR = specificity, FNR = 1 - sensitivity.

Everything is computed from a ``ScoreTable``: how many positive and negative cases have each distinct score. Equal
scores are one group, so the order of the cases decides nothing. Tables may carry a trailing replicate axis; then every
function returns one number per replicate. Sums run over whole numbers wherever the formula allows it, so a replicate
given as integer weights and the same replicate made by copying cases agree to the last bit. Undefined results are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

_ROUNDING = 1e-12  # so that a sensitivity of 0.8 asked of 5 positives means 4 of them, whatever 0.8 * 5 rounds to


@dataclass(frozen=True)
class ScoreTable:
    """``thresholds`` (T,) distinct scores, falling; ``pos`` and ``neg`` (T,) or (T, b) case counts at each score."""

    thresholds: np.ndarray
    pos: np.ndarray
    neg: np.ndarray

    @cached_property
    def tp(self) -> np.ndarray:
        """(T + 1, ...) true positives at "score >= threshold", from 0 (accept nothing) up."""
        return _running(self.pos)

    @cached_property
    def fp(self) -> np.ndarray:
        """(T + 1, ...) false positives, likewise."""
        return _running(self.neg)


def _running(counts: np.ndarray) -> np.ndarray:
    """Running sums along the first axis, with 0 before the first, in the memory order of ``counts``."""
    out = np.zeros_like(counts, shape=(len(counts) + 1, *counts.shape[1:]))
    np.cumsum(counts, axis=0, out=out[1:])
    return out


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise quotient, NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    out = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out[()]


def _sum(values: np.ndarray) -> np.ndarray:
    """Sum over the first axis strictly one by one, so that zero terms change no bit (np.sum regroups)."""
    return np.cumsum(values, axis=0)[-1] if len(values) else np.zeros(values.shape[1:])


def _row(values: np.ndarray, row: np.ndarray) -> np.ndarray:
    """``values[row]`` along the first axis, one row number per replicate."""
    return np.take_along_axis(values, np.asarray(row)[None], axis=0)[0]


def check_scores(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Truth as bool and scores as float64, both (n,).

    Raises:
        ValueError: lengths differ, truth outside {0, 1}, or a score is NaN.
    """
    truth, scores = np.asarray(truth), np.asarray(scores, float)
    if truth.shape != scores.shape or truth.ndim != 1:
        raise ValueError(f"truth {truth.shape} and scores {scores.shape}: two lists of one length are needed")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("truth has values other than 0 and 1; mask unknown labels first")
    if np.isnan(scores).any():
        raise ValueError(f"{int(np.isnan(scores).sum())} score(s) are NaN")
    return truth.astype(bool), scores


class ScoreIndex:
    """Cases sorted once by falling score, from which tables for any weights are made."""

    def __init__(self, truth: np.ndarray, scores: np.ndarray) -> None:
        y, s = check_scores(truth, scores)
        self.order = np.argsort(-s, kind="stable")
        ordered = s[self.order]
        self.starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(s) else np.zeros(0, np.int64)
        self.thresholds = ordered[self.starts]
        self.positive = y[self.order]

    def table(self, weights: np.ndarray | None = None) -> ScoreTable:
        """The table for weights (n,) or (n, b), in the order of the cases at construction; None counts each once."""
        if not len(self.order):
            empty = np.zeros((0, *(() if weights is None else np.shape(weights)[1:])))
            return ScoreTable(self.thresholds, empty, empty)
        w = np.ones(len(self.order)) if weights is None else np.asarray(weights)[self.order].astype(float)
        y = self.positive.reshape(-1, *[1] * (w.ndim - 1))
        return ScoreTable(
            self.thresholds, np.add.reduceat(w * y, self.starts, axis=0), np.add.reduceat(w * ~y, self.starts, axis=0)
        )


def score_table(truth: np.ndarray, scores: np.ndarray, weights: np.ndarray | None = None) -> ScoreTable:
    """Table of truth (n,) in {0, 1} and scores (n,), with optional weights (n,) or (n, b)."""
    return ScoreIndex(truth, scores).table(weights)


@dataclass(frozen=True)
class RocCurve:
    """Operating points by falling threshold ("positive" means score >= threshold), from (0, 0) to (1, 1).

    ``thresholds``, ``tpr`` and ``fpr`` are (T + 1,) float64; the first threshold is +inf.
    """

    thresholds: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray


def roc_curve(table: ScoreTable) -> RocCurve:
    """The empirical ROC curve (Fawcett 2006), one point per distinct score.

    The points are scikit-learn's ``roc_curve(drop_intermediate=False)``; equal scores make one slanted segment rather
    than an order-dependent staircase. A class without cases gives NaNs.
    """
    tp, fp = table.tp, table.fp
    return RocCurve(np.concatenate([[np.inf], table.thresholds]), _ratio(tp, tp[-1]), _ratio(fp, fp[-1]))


def roc_auc(table: ScoreTable) -> np.ndarray:
    """Area under the ROC curve: ``P(score of a positive > score of a negative) + P(equal) / 2``.

    Formula: ``sum_t neg_t (tp above t + pos_t / 2) / (P N)``, the trapezoids over the ROC points, equal to the
    Mann-Whitney statistic (Hanley & McNeil 1982) and scikit-learn's ``roc_auc_score``. It differs from a fitted
    (binormal) area and from the area under the convex hull, which is never smaller. NaN if a class is empty.
    """
    tp, fp = table.tp, table.fp
    # Whole numbers and halves: the order of the sum changes no bit.
    return _ratio((table.neg * (tp[:-1] + table.pos / 2)).sum(axis=0), tp[-1] * fp[-1])


NORMALIZATIONS = ("jiang", "raw", "mcclish", "chance")


def partial_auc_ratio(
    table: ScoreTable, min_sensitivity: float = 0.8, normalization: str = "jiang", interpolation: str = "linear"
) -> np.ndarray:
    """Partial area of the high-sensitivity band of the ROC curve, by default pAUCR over sensitivity [0.8, 1].

    Formula: with ``F(u)`` the smallest FPR of the ROC curve at sensitivity ``u``, ``t0 = min_sensitivity`` and
    ``A = integral of 1 - F(u) for u from t0 to 1``:

    * "jiang": ``A / (1 - t0)``, the mean specificity over the band, in [0, 1], chance ``(1 - t0) / 2``. Source: Jiang,
      Metz & Nishikawa 1996; this is the "partial AUC ratio" of the dual-branch paper, the area between the curve and
      the line sensitivity = t0 over that of a perfect classifier;
    * "raw": ``A``, in [0, 1 - t0] (ISIC 2024's challenge score);
    * "mcclish": ``(1 + (A - A_chance) / (1 - t0 - A_chance)) / 2`` with ``A_chance = (1 - t0)² / 2``; chance 0.5. It
      equals scikit-learn's ``roc_auc_score(1 - y, -s, max_fpr=1 - t0)``, whereas ``roc_auc_score(y, s, max_fpr=...)``
      is about a band of specificity instead;
    * "chance": ``A / A_chance``, chance 1: Peterson 2008, who calls it "partial AUC ratio" too.

    Args:
        table: the counts.
        min_sensitivity: ``t0`` in [0, 1).
        normalization: see above.
        interpolation: "linear" joins ROC points by lines; "step" takes for each ``u`` the first operating point that
            reaches it, which some threshold achieves. They agree without ties between positives and negatives.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"pAUC normalization {normalization!r} is none of {', '.join(NORMALIZATIONS)}")
    if interpolation not in ("linear", "step"):
        raise ValueError(f"interpolation {interpolation!r} is neither linear nor step")
    if not 0 <= min_sensitivity < 1:
        raise ValueError(f"min_sensitivity {min_sensitivity}: a number in [0, 1) is needed")
    positives, negatives = table.tp[-1], table.fp[-1]
    # Below the band there is no area: only the scores from where a first replicate enters it.
    inside = table.tp[1:] > min_sensitivity * positives
    inside = inside.any(axis=tuple(range(1, inside.ndim)))
    first = int(np.argmax(inside)) if inside.any() else len(inside)
    tp, fp, pos, neg = table.tp[first:], table.fp[first:], table.pos[first:], table.neg[first:]
    low = np.maximum(tp[:-1], min_sensitivity * positives)
    rise = np.clip(tp[1:] - low, 0, None)
    if interpolation == "step":
        false = fp[1:]
    else:
        part = np.divide(low - tp[:-1], pos, out=np.zeros_like(low), where=(pos > 0) & (rise > 0))
        false = (fp[:-1] + part * neg + fp[1:]) / 2
    band = 1 - min_sensitivity
    area = _ratio(_sum(rise * (negatives - false)), positives * negatives)
    if normalization == "raw":
        return area
    if normalization == "jiang":
        return area / band
    chance = band**2 / 2
    return area / chance if normalization == "chance" else (1 + (area - chance) / (band - chance)) / 2


def specificity_at_sensitivity(table: ScoreTable, sensitivity: float, interpolation: str = "step") -> np.ndarray:
    """Specificity at a sensitivity.

    Formula: "step" is ``max TNR over thresholds with TPR >= sensitivity``, which a threshold achieves; "linear" is
    ``1 - F(sensitivity)`` on the ROC curve drawn with lines, never smaller and in general not achievable. Papers that
    read the value off a plot mean the second.
    """
    tp, fp = table.tp, table.fp
    needed = sensitivity * tp[-1] * (1 - _ROUNDING)
    row = np.argmax(tp >= needed, axis=0)
    false = _row(fp, row)
    if interpolation == "linear":
        before = np.maximum(row - 1, 0)
        rise, run = _row(tp, row) - _row(tp, before), false - _row(fp, before)
        back = np.divide(_row(tp, row) - sensitivity * tp[-1], rise, out=np.zeros_like(false, float), where=rise > 0)
        false = false - np.clip(back, 0, 1) * run
    elif interpolation != "step":
        raise ValueError(f"interpolation {interpolation!r} is neither step nor linear")
    undefined = np.where(tp[-1] > 0, 1.0, np.nan)
    return (1 - _ratio(false, fp[-1])) * undefined


def sensitivity_at_specificity(table: ScoreTable, specificity: float) -> np.ndarray:
    """``max TPR over thresholds with TNR >= specificity`` (achievable; accepting nothing has TNR 1 and TPR 0)."""
    tp, fp = table.tp, table.fp
    allowed = (fp[-1] - specificity * fp[-1]) * (1 + _ROUNDING) + _ROUNDING
    row = (fp <= allowed).sum(axis=0) - 1
    return _ratio(_row(tp, row), tp[-1]) * np.where(fp[-1] > 0, 1.0, np.nan)


def tnr_at_fnr(table: ScoreTable, fnr: float) -> np.ndarray:
    """True negative rate when at most a part ``fnr`` of the positives may be missed.

    Formula: ``max TNR over thresholds with at most floor(fnr P) missed positives`` (lesion-context paper, Table 2): of
    136 malignant lesions FNR 0, 1, 2, 3, 5 % allow 0, 1, 2, 4, 6 misses. The same as
    ``specificity_at_sensitivity(1 - fnr)`` with "step", stated in whole cases. At FNR 0 it hangs on the one
    lowest-scored positive, for which a bootstrap interval is not reliable.
    """
    tp, fp = table.tp, table.fp
    missed = np.floor(fnr * tp[-1] * (1 + _ROUNDING) + _ROUNDING)
    row = np.argmax(tp >= tp[-1] - missed, axis=0)
    return (1 - _ratio(_row(fp, row), fp[-1])) * np.where(tp[-1] > 0, 1.0, np.nan)


def threshold_at_sensitivity(table: ScoreTable, sensitivity: float) -> float:
    """The highest threshold ("score >= threshold") that reaches a sensitivity; NaN without positives (one data set)."""
    tp = table.tp
    if not tp[-1] > 0:
        return float("nan")
    row = int(np.argmax(tp >= sensitivity * tp[-1] * (1 - _ROUNDING)))
    return float(np.concatenate([[np.inf], table.thresholds])[row])


def rates_at(table: ScoreTable, threshold: float, strict: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sensitivity, specificity and accuracy when "positive" means score > threshold (strict) or >= threshold.

    Formula: ``tp / P``, ``tn / N``, ``(tp + tn) / (P + N)``; accuracy depends on how many cases are positive.
    """
    row = int(np.sum(table.thresholds > threshold if strict else table.thresholds >= threshold))
    tp, fp = table.tp, table.fp
    positives, negatives = tp[-1], fp[-1]
    return (
        _ratio(tp[row], positives),
        _ratio(negatives - fp[row], negatives),
        _ratio(tp[row] + negatives - fp[row], positives + negatives),
    )


def average_precision(table: ScoreTable) -> np.ndarray:
    """Average precision of a ranking of cases: ``sum_t (R_t - R_{t-1}) P_t`` over distinct scores.

    Source: scikit-learn's ``average_precision_score``. No interpolation: it differs from the trapezoidal area under
    the precision-recall curve (optimistic), and from detection AP (COCO, VOC), where precision is made monotone and
    lesions that are never detected keep recall below 1. NaN without positives.
    """
    tp, fp = table.tp[1:], table.fp[1:]
    precision = tp / np.maximum(tp + fp, 1)
    positives = tp[-1] if len(tp) else np.zeros(table.pos.shape[1:])
    return _ratio(_sum(table.pos * precision), positives)


def probabilistic_f1(table: ScoreTable, beta: float = 1.0, claimed: np.ndarray | None = None) -> np.ndarray:
    """Probabilistic F score, with the scores used as probabilities and no threshold.

    Formula (Yacouby & Axman 2020, the RSNA 2022 mammography challenge): scores clipped to [0, 1],
    ``pP = sum of positives' scores / sum of all scores``, ``pR = sum of positives' scores / P``,
    ``(1 + beta²) pP pR / (beta² pP + pR)``. It differs from the F1 of thresholded decisions and depends on calibration.
    If all scores are 0 it is 0; NaN without positives. ``claimed`` (...,) is the sum of all scores where the table has
    taken negative cases of different scores together.
    """
    p = np.clip(table.thresholds, 0, 1).reshape(-1, *[1] * (table.pos.ndim - 1))
    hit, positives = _sum(p * table.pos), table.tp[-1]
    if claimed is None:
        claimed = _sum(p * (table.pos + table.neg))
    # (1 + b²) pP pR / (b² pP + pR) with the common factor cancelled, so that hit = 0 needs no special case.
    return _ratio((1 + beta**2) * hit, beta**2 * positives + claimed) * np.where(positives > 0, 1.0, np.nan)
