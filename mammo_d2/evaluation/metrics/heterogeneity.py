"""Does a number differ between subgroups? Wald's test on bootstrap replicates, and Holm's correction for many tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

#: Fewer defined replicates than that per compared subgroup do not give a covariance.
LEAST_REPLICATES = 50


@dataclass(frozen=True)
class Heterogeneity:
    """``statistic`` is chi-squared with ``degrees`` of freedom if all subgroups are alike; ``reason`` says why ``p`` is
    NaN."""

    statistic: float
    degrees: int
    p: float
    reason: str = ""


def heterogeneity_test(values: np.ndarray, replicates: np.ndarray) -> Heterogeneity:
    """Test that one number is the same in all subgroups (with a difference of systems as number: their interaction).

    Formula: with ``d`` the differences of the subgroups 2 … k from the first and ``S`` the covariance of their
    bootstrap replicates, ``W = d' S^-1 d`` is chi-squared with k - 1 degrees of freedom (Wald). All subgroups see the
    same draws, so that patients in several subgroups are allowed for. It holds for large samples; docs/evaluation.md
    says how often it rejected in simulations.

    Args:
        values: (k,) the number in each subgroup; NaN ones take no part.
        replicates: (k, B) on the same draws; a replicate that is undefined in one subgroup is left out.
    """
    nan = float("nan")
    there = ~np.isnan(values)
    if there.sum() < 2:
        return Heterogeneity(nan, 0, nan, "fewer than two subgroups in which it is defined")
    values, replicates = values[there], replicates[there]
    degrees = len(values) - 1
    defined = replicates[:, ~np.isnan(replicates).any(axis=0)]
    if defined.shape[1] < LEAST_REPLICATES * degrees:
        return Heterogeneity(nan, degrees, nan, f"{defined.shape[1]} replicates are defined in every subgroup")
    difference = values[1:] - values[0]
    covariance = np.atleast_2d(np.cov(defined[1:] - defined[0]))
    if np.linalg.matrix_rank(covariance) < degrees:
        if not difference.any() and not covariance.any():
            return Heterogeneity(0.0, degrees, 1.0)
        return Heterogeneity(nan, degrees, nan, "a subgroup's replicates do not vary")
    statistic = float(difference @ np.linalg.solve(covariance, difference))
    return Heterogeneity(statistic, degrees, float(chdtrc(degrees, statistic)))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's adjusted p values (1979), in the order given: the chance that any true hypothesis is rejected at ``alpha``
    is at most ``alpha``.

    Formula: the i-th smallest of m is multiplied by ``m - i + 1``, made no smaller than those before it, and cut at 1.
    NaN values stay NaN and do not count.
    """
    values = np.asarray(p, float)
    adjusted = np.full(values.shape, np.nan)
    order = np.flatnonzero(~np.isnan(values))
    order = order[np.argsort(values[order], kind="stable")]
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * factors), 1.0)
    return adjusted
