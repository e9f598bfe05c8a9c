"""Bootstrap over patients: replicates as integer weights, intervals, and paired comparison of systems.

Naming: ``M`` patients, ``B`` replicates, ``b`` replicates computed together, ``K`` numbers of one statistic. All images
of a patient are drawn together ("cluster bootstrap"), because they are not independent. A replicate is a column of
whole numbers: how often each patient was drawn. Every statistic here gives exactly the number that it would give on a
data set with that many copies of each patient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class Statistic(Protocol):
    """Something that can be bootstrapped."""

    @property
    def keys(self) -> Sequence[str]:
        """Names of the K numbers."""
        ...

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) numbers for patient weights (M, b)."""
        ...


@dataclass(frozen=True)
class BootstrapPlan:
    """How to resample: ``replicates`` (0: no intervals), ``seed``, ``confidence`` of the intervals, and ``stratified``:
    draw positive and negative patients apart, so that every replicate has as many of each as the data."""

    replicates: int = 1000
    seed: int = 0
    confidence: float = 0.95
    stratified: bool = True

    def __post_init__(self) -> None:
        if self.replicates < 0 or not 0 < self.confidence < 1:
            raise ValueError(f"bootstrap: replicates {self.replicates} >= 0, confidence {self.confidence} in (0, 1)")
        if self.seed < 0:
            raise ValueError(f"bootstrap: seed {self.seed} must be 0 or more")

    def __str__(self) -> str:
        if not self.replicates:
            return "no bootstrap"
        kind = "stratified by patient truth" if self.stratified else "not stratified"
        return (
            f"{self.confidence:.0%} percentile intervals from {self.replicates} bootstrap replicates over patients, "
            f"{kind}, seed {self.seed}"
        )


def draw_weights(num_patients: int, replicates: range, seed: int, strata: np.ndarray | None = None) -> np.ndarray:
    """Patient weights of some replicates.

    Replicate ``r`` depends on ``(seed, r)`` alone, not on how many are drawn at a time. Within each stratum as many
    patients are drawn, with replacement, as it has.

    Args:
        num_patients: M.
        replicates: which replicates.
        seed: seed of the whole bootstrap.
        strata: (M,) stratum of each patient; None is one stratum.

    Returns:
        (M, len(replicates)) uint16.
    """
    groups = [np.arange(num_patients)]
    if strata is not None:
        groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    weights = np.zeros((len(replicates), num_patients), np.uint16)
    for row, number in enumerate(replicates):
        rng = np.random.default_rng([seed, number])
        for members in groups:
            if len(members):
                drawn = np.bincount(rng.integers(0, len(members), len(members)), minlength=len(members))
                weights[row, members] = drawn
    return np.ascontiguousarray(weights.T)


def weight_chunks(
    num_patients: int, plan: BootstrapPlan, strata: np.ndarray | None = None, chunk: int = 64
) -> Iterator[np.ndarray]:
    """Weights (M, at most ``chunk``) of all replicates of the plan, part by part."""
    for first in range(0, plan.replicates, chunk):
        part = range(first, min(first + chunk, plan.replicates))
        yield draw_weights(num_patients, part, plan.seed, strata if plan.stratified else None)


def estimate(statistic: Statistic, num_patients: int) -> np.ndarray:
    """(K,) numbers of the data itself: the replicate in which every patient counts once."""
    return np.asarray(statistic.replicate(np.ones((num_patients, 1), np.uint16)))[:, 0]


def bootstrap(
    statistics: Mapping[str, Statistic],
    num_patients: int,
    plan: BootstrapPlan,
    strata: np.ndarray | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict[str, np.ndarray]:
    """Replicates of several statistics on the same draws, so that their differences are paired.

    Args:
        statistics: by name.
        num_patients: M, patients as numbered in the image table.
        plan: how to resample.
        strata: (M,) stratum of each patient, used if the plan is stratified.
        progress: called with the number of replicates done after each chunk.

    Returns:
        (K, B) by name.
    """
    parts: dict[str, list[np.ndarray]] = {name: [] for name in statistics}
    for weights in weight_chunks(num_patients, plan, strata):
        for name, statistic in statistics.items():
            parts[name].append(np.asarray(statistic.replicate(weights)))
        if progress is not None:
            progress(weights.shape[1])
    return {
        name: np.concatenate(part, axis=1) if part else np.zeros((len(statistics[name].keys), 0))
        for name, part in parts.items()
    }


@dataclass(frozen=True)
class Interval:
    """Percentile interval; ``undefined`` replicates (NaN, e.g. no positive drawn) are left out of it and counted."""

    low: float
    high: float
    undefined: int = 0


def percentile_interval(values: np.ndarray, confidence: float) -> Interval:
    """Percentile interval of replicates (B,) (Efron 1979), by linear interpolation between order statistics.

    It needs no symmetry and respects the range of the metric; it does not correct for bias as BCa does. NaN limits if
    no replicate is defined.
    """
    defined = values[~np.isnan(values)]
    undefined = len(values) - len(defined)
    if not len(defined):
        return Interval(float("nan"), float("nan"), undefined)
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high), undefined)


@dataclass(frozen=True)
class Comparison:
    """Difference of two systems on the same patients (second minus first), its interval and two-sided p value."""

    difference: float
    low: float
    high: float
    p: float


def paired_comparison(
    first: float, second: float, first_values: np.ndarray, second_values: np.ndarray, confidence: float
) -> Comparison:
    """Compare two systems by their replicates on the same draws.

    Formula: with ``d`` the replicate differences, ``p = min(1, (2 min(#{d <= 0}, #{d >= 0}) + 1) / (B + 1))``, the
    smallest level at which the percentile interval excludes 0, with the usual + 1 so that it is never 0. It is no
    permutation test: it asks whether the interval covers 0, not whether the systems could be exchanged.

    Args:
        first, second: the estimates.
        first_values, second_values: (B,) replicates.
        confidence: of the interval.
    """
    d = second_values - first_values
    interval = percentile_interval(d, confidence)
    d = d[~np.isnan(d)]
    p = float("nan")
    if len(d):
        p = min(1.0, (2 * min(int((d <= 0).sum()), int((d >= 0).sum())) + 1) / (len(d) + 1))
    return Comparison(second - first, interval.low, interval.high, p)
