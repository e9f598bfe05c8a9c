"""Permutation test of two systems on the same patients: their results are exchanged patient by patient.

Naming: ``M`` patients, ``P`` permutations. A pooled statistic knows 2 M patients: number p with the first system's
results, number p + M with the second's. A patient weight of 1 or 0 says whose results count, so that every statistic of
the bootstrap can be permuted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.bootstrap import Statistic
from mammo_d2.evaluation.metrics.detection.froc import FrocEvents
from mammo_d2.evaluation.metrics.scores.delong import midranks
from mammo_d2.evaluation.metrics.scores.levels import LevelCases

_EXACT = 12  # patients up to which all 2^M exchanges are made


@dataclass(frozen=True)
class PermutationResult:
    """Difference (second minus first) and two-sided p value; ``is_exact``: all exchanges were made."""

    difference: float
    p: float
    permutations: int
    is_exact: bool


def permutation_test(
    pooled: Statistic, num_patients: int, permutations: int = 2000, seed: int = 0, chunk: int = 64
) -> dict[str, PermutationResult]:
    """Test every number of a pooled statistic.

    Formula: ``p = (#{|d*| >= |d|} + 1) / (P + 1)`` over random exchanges, without the + 1 over all of them. Under the
    hypothesis the two systems' results of a patient are exchangeable: not only the metric, all else is equal, too.
    Source: Fisher 1935; Bandos, Rockette & Gur 2005 for areas under paired ROC curves.

    Args:
        pooled: of 2 M patients, see the module.
        num_patients: M.
        permutations: P; with at most 12 patients all exchanges are made instead.
        seed: of the draws.
        chunk: exchanges at a time.

    Returns:
        by key of the statistic; NaN where the difference is undefined.
    """
    second = np.zeros((num_patients, 1), bool)
    difference = _difference(pooled, ~second)[:, 0]
    extreme = np.zeros(len(pooled.keys))
    count = np.zeros(len(pooled.keys))
    is_exact = num_patients <= _EXACT
    for swapped in _swaps(num_patients, permutations, seed, chunk, is_exact):
        drawn = _difference(pooled, ~swapped)
        extreme += (np.abs(drawn) >= np.abs(difference)[:, None] - 1e-12).sum(axis=1)
        count += (~np.isnan(drawn)).sum(axis=1)
    extra = 0 if is_exact else 1
    with np.errstate(invalid="ignore", divide="ignore"):
        p = np.where(np.isnan(difference), np.nan, (extreme + extra) / (count + extra))
    return {
        key: PermutationResult(float(d), float(value), int(n), is_exact)
        for key, d, value, n in zip(pooled.keys, difference, p, count, strict=True)
    }


def _swaps(patients: int, permutations: int, seed: int, chunk: int, is_exact: bool) -> Iterator[np.ndarray]:
    """(M, at most chunk) bool: whose results are exchanged."""
    if is_exact:
        numbers = np.arange(2**patients)
        yield (numbers[None] >> np.arange(patients)[:, None]) & 1 == 1
        return
    rng = np.random.default_rng(seed)
    for first in range(0, permutations, chunk):
        yield rng.random((patients, min(chunk, permutations - first))) < 0.5


def _difference(pooled: Statistic, first: np.ndarray) -> np.ndarray:
    """(K, b) second minus first, where ``first`` (M, b) says that patients keep their own system's results."""
    of_first = np.concatenate([first, ~first]).astype(np.uint16)
    of_second = np.concatenate([~first, first]).astype(np.uint16)
    return np.asarray(pooled.replicate(of_second)) - np.asarray(pooled.replicate(of_first))


def pooled_cases(first: LevelCases, second: LevelCases, num_patients: int, *, ranked: bool = True) -> LevelCases:
    """Cases of two systems as one list, for ``permutation_test``.

    Args:
        first, second: the same cases in the same order.
        num_patients: M.
        ranked: replace scores by ranks within each system, so that systems with scores on different scales can be
            exchanged; for metrics that use ranks only (AUC and ROC points, not a fixed threshold).

    Raises:
        ValueError: different cases.
    """
    if not (np.array_equal(first.patient, second.patient) and np.array_equal(first.truth, second.truth)):
        raise ValueError("permutation test: the two systems must score the same cases")
    a, b = (midranks(cases.scores) if ranked else cases.scores for cases in (first, second))
    return LevelCases(
        np.concatenate([first.truth, second.truth]),
        np.concatenate([a, b]),
        np.concatenate([first.patient, second.patient + num_patients]),
        first.unknown,
    )


def pooled_events(
    first: FrocEvents, second: FrocEvents, patient: np.ndarray, num_patients: int
) -> tuple[FrocEvents, np.ndarray]:
    """FROC events of two systems as one list, and the patient of each of its images.

    Scores are replaced by the rate of false positives at them, negated, in each system: FROC sensitivities stay what
    they are, and systems on different scales can be exchanged.

    Args:
        first, second: of the same images, lesions and rule.
        patient: (N,) patient of each image.
        num_patients: M.
    """
    images = len(first.counted)
    parts = [_as_rates(first), _as_rates(second)]
    fp_scores = np.concatenate([part[0] for part in parts])
    fp_image = np.concatenate([first.fp_image, second.fp_image + images])
    unit_scores = np.concatenate([part[1] for part in parts])
    unit_image = np.concatenate([first.unit_image, second.unit_image + images])
    by_fp, by_unit = np.argsort(-fp_scores, kind="stable"), np.argsort(-unit_scores, kind="stable")
    events = FrocEvents(
        fp_scores[by_fp],
        fp_image[by_fp],
        unit_scores[by_unit],
        unit_image[by_unit],
        np.concatenate([first.counted, second.counted]),
        np.zeros(0),
    )
    return events, np.concatenate([patient, patient + num_patients])


def _as_rates(events: FrocEvents) -> tuple[np.ndarray, np.ndarray]:
    """Scores of false positives and units on the scale "minus the false positives at or above"; -inf stays."""
    rising = events.fp_scores[::-1]

    def at_or_above(scores: np.ndarray) -> np.ndarray:
        return len(rising) - np.searchsorted(rising, scores, side="left")

    units = -at_or_above(events.unit_scores).astype(float)
    # A unit between two false positives lies half a step above the lower one.
    tied = np.isin(events.unit_scores, events.fp_scores)
    units = np.where(tied, units, units - 0.5)
    units[~np.isfinite(events.unit_scores)] = -np.inf
    return -at_or_above(events.fp_scores).astype(float), units
