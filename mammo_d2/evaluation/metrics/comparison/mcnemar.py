"""McNemar's test of paired decisions, with one or several cases of a patient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class McNemarResult:
    """Discordant cases and the test.

    Attributes:
        first_only, second_only: cases that only the first or only the second system had right.
        difference: proportion right of the second minus that of the first.
        statistic: chi-square without continuity correction, over patients where they have several cases.
        p: asymptotic, from ``statistic``.
        p_exact, p_mid: exact and mid-p binomial test; NaN where a patient has several cases.
    """

    first_only: int
    second_only: int
    difference: float
    statistic: float
    p: float
    p_exact: float
    p_mid: float


def mcnemar_test(first: np.ndarray, second: np.ndarray, patient: np.ndarray | None = None) -> McNemarResult:
    """Compare two systems' decisions on the same cases, e.g. the sensitivity on the positive ones.

    Formula: one case per patient: ``(b - c)² / (b + c)`` (McNemar 1947), exact: b of b + c is binomial with 1/2;
    mid-p: half the probability of the observed count is taken off (recommended by Fagerland, Lydersen & Laake 2013).
    Several cases of a patient: ``(sum_k d_k)² / sum_k d_k²`` with ``d_k`` the second's minus the first's right cases of
    patient k (Yang, Sun & Hardin 2010), which is McNemar's where each patient has one case.

    Args:
        first, second: (n,) bool, whether the decision was right.
        patient: (n,) patient of each case; None: each is a patient.

    Returns:
        The result; without a discordant case the p values are 1.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(f"McNemar: decisions {a.shape} and {b.shape}: two lists of one length are needed")
    group = np.arange(len(a)) if patient is None else np.unique(patient, return_inverse=True)[1]
    change = np.bincount(group, b.astype(float) - a)
    first_only, second_only = int((a & ~b).sum()), int((b & ~a).sum())
    squares = float((change**2).sum())
    statistic = float(change.sum()) ** 2 / squares if squares else 0.0
    exact = mid = float("nan")
    if len(np.unique(group)) == len(a):
        discordant = first_only + second_only
        exact = float(stats.binomtest(first_only, discordant).pvalue) if discordant else 1.0
        fewer = min(first_only, second_only)
        tail, at = stats.binom.cdf(fewer - 1, discordant, 0.5), stats.binom.pmf(fewer, discordant, 0.5)
        mid = float(2 * tail + at) if first_only != second_only else 1.0
    difference = (second_only - first_only) / len(a) if len(a) else float("nan")
    return McNemarResult(first_only, second_only, difference, statistic, float(stats.chi2.sf(statistic, 1)), exact, mid)
