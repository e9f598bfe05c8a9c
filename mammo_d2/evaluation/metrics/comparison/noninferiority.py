"""Non-inferiority with a margin: whether a new system is worse by no more than a stated amount."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np


@dataclass(frozen=True)
class NonInferiority:
    """Result of a non-inferiority test.

    Attributes:
        difference: new minus reference, larger is better.
        margin: the largest loss accepted, above 0.
        low: lower limit of the difference; the test asks whether it lies above ``-margin``.
        p: one-sided, of the hypothesis that the new system is worse by the margin or more.
        is_noninferior: ``low > -margin``.
    """

    difference: float
    margin: float
    low: float
    p: float
    is_noninferior: bool


def _check(margin: float, level: float) -> None:
    if not margin > 0:
        raise ValueError(f"non-inferiority margin {margin:g} must be above 0, e.g. 0.05 of an AUC, and set beforehand")
    if not 0 < level < 0.5:
        raise ValueError(f"non-inferiority level {level:g} must lie between 0 and 0.5, e.g. 0.025 (one-sided)")


def noninferiority_test(difference: float, error: float, margin: float, level: float = 0.025) -> NonInferiority:
    """Test from an estimate and its standard error, e.g. DeLong's for an AUC.

    Formula: ``z = (d + margin) / error``, one-sided ``p = 1 - Phi(z)``; the lower limit at one-sided ``level`` is that
    of the two-sided interval at ``1 - 2 level``. Source: FDA 2016, "Non-Inferiority Clinical Trials"; for the AUC
    Liu et al. 2006. A margin chosen after the result was seen proves nothing.

    Raises:
        ValueError: a margin of 0 or less, or a level outside (0, 0.5).
    """
    _check(margin, level)
    low = difference - NormalDist().inv_cdf(1 - level) * error
    if error > 0:
        p = 1 - NormalDist().cdf((difference + margin) / error)
    else:
        p = 0.0 if difference > -margin else 1.0
    return NonInferiority(difference, margin, low, p, low > -margin)


def noninferiority_of_replicates(
    difference: float, replicates: np.ndarray, margin: float, level: float = 0.025
) -> NonInferiority:
    """Test from bootstrap replicates of the difference, for any metric.

    Formula: ``low`` is the ``level`` quantile of the replicates, ``p = (#{d <= -margin} + 1) / (B + 1)``, the smallest
    level at which the percentile limit lies above ``-margin``.

    Args:
        difference: the estimate.
        replicates: (B,) of it; NaNs are left out.
        margin, level: as ``noninferiority_test``.
    """
    _check(margin, level)
    drawn = replicates[~np.isnan(replicates)]
    if not len(drawn):
        return NonInferiority(difference, margin, float("nan"), float("nan"), False)
    low = float(np.quantile(drawn, level))
    p = (int((drawn <= -margin).sum()) + 1) / (len(drawn) + 1)
    return NonInferiority(difference, margin, low, p, low > -margin)
