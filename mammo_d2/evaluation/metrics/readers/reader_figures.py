"""Figures of merit of readers' marks: areas under the ROC, AFROC and wAFROC curves, with every case left out once.

Naming: ``T`` treatments (modalities, or a system and its rival), ``R`` readers, ``K`` cases, ``L`` lesions of all.
A rating of -inf means "no mark". A case is normal if it has no lesion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

READER_FIGURES = ("auc", "afroc", "wafroc", "afroc1", "wafroc1")


@dataclass(frozen=True)
class ReaderMarks:
    """Ratings of all readers of a factorial study: every reader reads every case under every treatment.

    Attributes:
        treatments: T names.
        readers: R names.
        cases: K names.
        false: (T, R, K) highest rating among the marks of a case that hit no lesion; -inf without such a mark. In ROC
            data the rating of a normal case, and -inf for an abnormal one.
        hits: (T, R, L) rating of the mark on a lesion; -inf for a lesion that was not marked.
        lesion_case: (L,) int64 case of each lesion.
        weights: (L,) weight of a lesion among those of its case, for wAFROC; they sum to 1 within a case.
    """

    treatments: tuple[str, ...]
    readers: tuple[str, ...]
    cases: tuple[str, ...]
    false: np.ndarray
    hits: np.ndarray
    lesion_case: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        shape = (len(self.treatments), len(self.readers))
        if self.false.shape != (*shape, len(self.cases)) or self.hits.shape != (*shape, len(self.lesion_case)):
            raise ValueError(
                f"reader marks: false {self.false.shape} and hits {self.hits.shape} do not fit {shape[0]} treatments, "
                f"{shape[1]} readers, {len(self.cases)} cases and {len(self.lesion_case)} lesions"
            )
        if np.isnan(self.false).any() or np.isnan(self.hits).any():
            raise ValueError("reader marks: a rating is NaN; write -inf where there is no mark")
        if not self.abnormal.any() or self.abnormal.all():
            raise ValueError("reader marks: cases with and without a lesion are needed")
        sums = np.bincount(self.lesion_case, self.weights, len(self.cases))[self.abnormal]
        if not np.allclose(sums, 1):
            raise ValueError("reader marks: the weights of a case's lesions must sum to 1")

    @property
    def abnormal(self) -> np.ndarray:
        """(K,) bool, the cases with a lesion."""
        return np.bincount(self.lesion_case, minlength=len(self.cases)) > 0


def equal_weights(lesion_case: np.ndarray) -> np.ndarray:
    """(L,) the same weight for each lesion of a case, summing to 1."""
    return 1 / np.bincount(lesion_case)[lesion_case] if len(lesion_case) else np.zeros(0)


def roc_marks(
    treatments: Sequence[str], readers: Sequence[str], cases: Sequence[str], truth: np.ndarray, ratings: np.ndarray
) -> ReaderMarks:
    """Marks of ROC data: one rating per case.

    Args:
        treatments, readers, cases: T, R and K names.
        truth: (K,) bool, abnormal.
        ratings: (T, R, K).
    """
    abnormal = np.asarray(truth, bool)
    case = np.flatnonzero(abnormal)
    false = np.where(abnormal, -np.inf, np.asarray(ratings, float))
    hits = np.asarray(ratings, float)[..., case]
    return ReaderMarks(tuple(treatments), tuple(readers), tuple(cases), false, hits, case, np.ones(len(case)))


@dataclass(frozen=True)
class ReaderFigures:
    """``values`` (T, R) figures of merit and ``left_out`` (T, R, K), the same without one case."""

    figure: str
    values: np.ndarray
    left_out: np.ndarray


def reader_figures(marks: ReaderMarks, figure: str = "wafroc") -> ReaderFigures:
    """A figure of merit of every reader under every treatment.

    Formula: ``sum_i sum_l w_l psi(x_i, y_l) / (n W)`` with ``psi`` 1 if lesion rating ``y_l`` exceeds case rating
    ``x_i``, 1/2 if they are equal (two cases without mark are), else 0; ``n`` the cases ``i`` and ``W`` the sum of
    weights:

    * "auc": ``x`` the highest rating of a normal case, ``y`` that of an abnormal one (inferred ROC for free-response
      data), the Wilcoxon statistic;
    * "afroc": ``x`` the highest false mark of a normal case, ``y`` every lesion, all of weight 1 (JAFROC's figure);
    * "wafroc": likewise, every abnormal case of weight 1, shared by its lesions; a case with many lesions counts no
      more than another;
    * "afroc1", "wafroc1": false marks of abnormal cases count too; for data with few normal cases.

    Source: Chakraborty & Berbaum 2004 (JAFROC), Chakraborty & Zhai 2016 (weights); equal to RJafroc's Wilcoxon or
    HrAuc, AFROC, wAFROC, AFROC1, wAFROC1 (``tests/evaluation/metrics/readers``).

    Raises:
        ValueError: another figure.
    """
    if figure not in READER_FIGURES:
        raise ValueError(f"figure of merit {figure!r} is none of {', '.join(READER_FIGURES)}")
    abnormal = marks.abnormal
    if figure == "auc":
        lesion_case, weights = np.flatnonzero(abnormal), np.ones(int(abnormal.sum()))
        best = np.full((*marks.hits.shape[:2], len(abnormal)), -np.inf)
        for row, case in enumerate(marks.lesion_case):
            best[..., case] = np.maximum(best[..., case], marks.hits[..., row])
        hits = np.maximum(best, marks.false)[..., lesion_case]
    else:
        lesion_case, hits = marks.lesion_case, marks.hits
        weights = marks.weights if figure.startswith("w") else np.ones(len(lesion_case))
    counted = np.ones(len(abnormal), bool) if figure.endswith("1") else ~abnormal
    values = np.empty(marks.false.shape[:2])
    left_out = np.empty(marks.false.shape)
    for t in range(len(marks.treatments)):
        for r in range(len(marks.readers)):
            values[t, r], left_out[t, r] = _figure(marks.false[t, r], hits[t, r], lesion_case, weights, counted)
    return ReaderFigures(figure, values, left_out)


def _figure(
    false: np.ndarray, hits: np.ndarray, lesion_case: np.ndarray, weights: np.ndarray, counted: np.ndarray
) -> tuple[float, np.ndarray]:
    """The figure of one reader, and (K,) without each case."""
    cases = len(false)
    x = false[counted]
    falling = np.sort(x)
    by_lesion = (np.searchsorted(falling, hits, "left") + np.searchsorted(falling, hits, "right")) / 2
    order = np.argsort(hits)
    sums = np.concatenate([[0.0], np.cumsum(weights[order])])
    below = (np.searchsorted(hits[order], x, "left"), np.searchsorted(hits[order], x, "right"))
    by_case = np.zeros(cases)
    by_case[counted] = sums[-1] - (sums[below[0]] + sums[below[1]]) / 2
    own = false[lesion_case]
    psi = np.where(hits > own, 1.0, np.where(hits == own, 0.5, 0.0)) * counted[lesion_case]
    total = float(weights @ by_lesion)
    without = (
        total
        - by_case
        - np.bincount(lesion_case, weights * by_lesion, cases)
        + np.bincount(lesion_case, weights * psi, cases)
    )
    number, weight = counted.sum() - counted, weights.sum() - np.bincount(lesion_case, weights, cases)
    denominator = number * weight
    left_out = np.divide(without, denominator, out=np.full(cases, np.nan), where=denominator > 0)
    return total / (counted.sum() * float(weights.sum())), left_out
