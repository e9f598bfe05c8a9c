"""Score tables of bootstrap replicates: cases are sorted once, then each replicate sums the weights of patients.

Naming: ``n`` cases, ``M`` patients, ``T`` rows of a table, ``b`` replicates. Between two scores that positive cases
have, all negative cases are one row: no number of ``curves.py`` but ``probabilistic_f1`` looks inside such a run, so
that the numbers are those of the whole table to the last bit, at a fraction of its length. The sum over all scores that
``probabilistic_f1`` needs is made apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mammo_d2.evaluation.metrics.scores.curves import ScoreIndex, ScoreTable
from mammo_d2.evaluation.metrics.weighted_sums import SegmentSums, replicate_parts

_ROWS = 2048  # scores multiplied at a time


class ReplicateTables:
    """Score tables for patient weights.

    Args:
        truth: (n,) in {0, 1}.
        scores: (n,) float, no NaN.
        patient: (n,) patient numbers.
        threshold, strict: of the decisions; no row lies on both sides.
    """

    def __init__(
        self, truth: np.ndarray, scores: np.ndarray, patient: np.ndarray, threshold: float, strict: bool
    ) -> None:
        index = ScoreIndex(truth, scores)
        number = len(index.order)
        patient = np.asarray(patient, np.int64)[index.order]
        ends = np.append(index.starts, number)
        self._scores = np.clip(index.thresholds, 0, 1)
        self._groups = SegmentSums(patient, ends)
        found = np.concatenate([[0], np.cumsum(index.positive)])
        has_positive = np.diff(found[ends]) > 0
        called = index.thresholds > threshold if strict else index.thresholds >= threshold
        begins = has_positive.copy()
        begins[1:] |= has_positive[:-1] | (called[1:] != called[:-1])
        begins[:1] = True
        rows = np.append(index.starts[begins], number)
        self._thresholds = index.thresholds[begins]
        self._pos = SegmentSums(patient[index.positive], found[rows])
        self._neg = SegmentSums(patient[~index.positive], rows - found[rows])

    def tables(self, weights: np.ndarray) -> Iterator[tuple[slice, ScoreTable, np.ndarray]]:
        """Tables of some replicates after the others.

        Args:
            weights: (M, b) whole numbers >= 0.

        Yields:
            the replicates; their table, int64 in column order; and ``claimed``, the weighted sum of all scores, each
            cut to [0, 1].
        """
        pos, neg = self._pos.sums(weights), self._neg.sums(weights)
        claimed = self._claimed(self._groups.sums(weights))
        for columns in replicate_parts(*pos.shape):
            table = ScoreTable(
                self._thresholds, pos[:, columns].astype(np.int64, "F"), neg[:, columns].astype(np.int64, "F")
            )
            yield columns, table, claimed[columns]

    def _claimed(self, drawn: np.ndarray) -> np.ndarray:
        """(b,) sum of score x weight, one score after the other as everywhere in ``curves.py``."""
        if drawn.shape[1] == 1:  # numpy would sum a single column pair by pair
            return np.cumsum(drawn * self._scores[:, None], axis=0)[-1:].sum(axis=0)
        total = np.zeros(drawn.shape[1])
        for first in range(0, len(drawn), _ROWS):
            terms = drawn[first : first + _ROWS] * self._scores[first : first + _ROWS, None]
            terms[0] += total
            total = np.add.reduce(terms, axis=0)
        return total
