"""Confidence intervals beside the percentile interval: BCa, and one that holds for few positive patients.

Naming: ``M`` patients, ``B`` replicates, ``K`` numbers of a statistic, ``m`` patients of the rarer kind.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from mammo_d2.evaluation.metrics.bootstrap import Interval, Statistic, percentile_interval

#: How an interval is made from replicates: the percentile interval is the one of ``mammo-d2 evaluate``.
INTERVALS = ("percentile", "bca", "beta")


def left_out_values(statistic: Statistic, num_patients: int, chunk: int = 64) -> np.ndarray:
    """(K, M) numbers of a statistic without each patient."""
    parts = []
    for first in range(0, num_patients, chunk):
        columns = np.arange(first, min(first + chunk, num_patients))
        weights = np.ones((num_patients, len(columns)), np.uint16)
        weights[columns, np.arange(len(columns))] = 0
        parts.append(np.asarray(statistic.replicate(weights)))
    return np.concatenate(parts, axis=1) if parts else np.zeros((len(statistic.keys), 0))


def bca_interval(
    value: float, replicates: np.ndarray, left_out: np.ndarray, confidence: float, strata: np.ndarray | None = None
) -> Interval:
    """Bias-corrected and accelerated bootstrap interval.

    Formula: the quantiles ``Phi(z0 + (z0 + z) / (1 - a (z0 + z)))`` of the replicates, ``z0`` from the part of
    replicates below the estimate (half of those equal to it), ``a = sum l³ / (6 (sum l²)^1.5)`` from the influence
    ``l`` of each patient, its jackknife difference over the size of its stratum. Source: Efron 1987; Davison & Hinkley
    1997, section 5.3, for strata. It corrects the bias and skewness of the percentile interval, not its shortness in
    small samples (``docs/statistics.md``).

    Args:
        value: the estimate.
        replicates: (B,); NaNs are left out and counted.
        left_out: (M,) the number without each patient; NaNs are left out.
        confidence: of the interval.
        strata: (M,) stratum of each patient if the bootstrap was stratified.

    Returns:
        The interval; NaN limits where it is undefined (all replicates on one side of the estimate).
    """
    defined = replicates[~np.isnan(replicates)]
    undefined = len(replicates) - len(defined)
    nan = Interval(float("nan"), float("nan"), undefined)
    if not len(defined) or np.isnan(value):
        return nan
    if (defined == value).all():
        return Interval(value, value, undefined)
    below = float((defined < value).mean() + (defined == value).mean() / 2)
    z0 = float(special.ndtri(below))
    if not np.isfinite(z0):
        return nan
    acceleration = _acceleration(left_out, np.zeros(len(left_out)) if strata is None else strata)
    z = special.ndtri(np.array([(1 - confidence) / 2, (1 + confidence) / 2]))
    levels = special.ndtr(z0 + (z0 + z) / (1 - acceleration * (z0 + z)))
    low, high = np.quantile(defined, levels)
    return Interval(float(low), float(high), undefined)


def _acceleration(left_out: np.ndarray, strata: np.ndarray) -> float:
    cubes = squares = 0.0
    for stratum in np.unique(strata):
        values = left_out[strata == stratum]
        values = values[~np.isnan(values)]
        if len(values) > 1:
            influence = (len(values) - 1) * (values.mean() - values) / len(values)
            cubes += float((influence**3).sum())
            squares += float((influence**2).sum())
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def deciding_patients(patients: int, share: float = 1.0) -> int:
    """How many patients decide a number: m of ``beta_interval``.

    Args:
        patients: of the rarer kind, all of which decide an AUC or a sensitivity.
        share: the part of them that does, e.g. 0.2 for a partial area over sensitivity [0.8, 1], which depends on the
            lowest-scored fifth; one more is counted, the next above them.
    """
    return patients if share >= 1 else min(1 + int(np.ceil(share * patients - 1e-9)), patients)


def deciding_share(metric: str, min_sensitivity: float = 0.8) -> float:
    """The part of the positive patients that decides a metric, by its name without the task.

    ``spec@sens0.85`` hangs on the lowest-scored 15 %, ``tnr@fnr0.05`` on 5 %, ``pauc_ratio`` on those below
    ``min_sensitivity``; others on all.
    """
    if metric == "pauc_ratio":
        return 1 - min_sensitivity
    for prefix, part in (("spec@sens", lambda x: 1 - x), ("tnr@fnr", lambda x: x)):
        if metric.startswith(prefix):
            return float(part(float(metric.removeprefix(prefix))))
    return 1.0


def beta_interval(
    value: float, replicates: np.ndarray, clusters: int, confidence: float, lowest: float = 0.0, highest: float = 1.0
) -> Interval:
    """Interval for a number between bounds when few patients decide it, e.g. a sensitivity at 3 % prevalence.

    Formula: the bootstrap variance, times ``m / (m - 1)`` because m resampled patients spread less than m patients, is
    turned into an effective number of independent cases ``n = q (1 - q) / variance`` of the number ``q`` on the scale
    from 0 to 1; ``n`` is multiplied by ``(z / t)²`` with Student's t on ``m - 1`` degrees of freedom for z, because the
    variance itself comes from m patients; then Clopper & Pearson's interval of ``n q`` successes in ``n`` trials, by
    quantiles of the beta distribution. Where the replicates do not vary (all found) or m is 1,
    ``n = m``.

    Source: Korn & Graubard 1998, for proportions in clustered surveys. The same for other bounded means is this
    package's; its coverage is measured by ``benchmarks/coverage.py`` (``docs/statistics.md`` has the table).

    Args:
        value: the estimate.
        replicates: (B,); NaNs are left out and counted.
        clusters: m, patients of the rarer kind: those with the disease in screening; see ``deciding_patients``.
        confidence: of the interval.
        lowest, highest: the number's range: 0 and 1, or -1 and 1 for a difference of two such numbers.
    """
    defined = replicates[~np.isnan(replicates)]
    undefined = len(replicates) - len(defined)
    if np.isnan(value) or clusters < 1 or not len(defined):
        return Interval(float("nan"), float("nan"), undefined)
    scale = highest - lowest
    q = float(np.clip((value - lowest) / scale, 0, 1))
    variance = float(np.var(defined)) / scale**2
    effective = float(clusters)
    if clusters > 1 and variance > 1e-15 and 0 < q < 1:
        z, t = special.ndtri((1 + confidence) / 2), special.stdtrit(clusters - 1, (1 + confidence) / 2)
        effective = q * (1 - q) / (variance * clusters / (clusters - 1)) * float(z / t) ** 2
    tail = (1 - confidence) / 2
    success, failure = effective * q, effective * (1 - q)
    low = float(special.betaincinv(success, failure + 1, tail)) if success > 0 else 0.0
    high = float(special.betaincinv(success + 1, failure, 1 - tail)) if failure > 0 else 1.0
    return Interval(lowest + scale * low, lowest + scale * high, undefined)


def auc_score_interval(auc: float, positives: float, negatives: float, confidence: float = 0.95) -> Interval:
    """Interval of an AUC from the numbers of positive and negative patients alone, for very few positives.

    Formula: the values ``A`` with ``(auc - A)² <= z² V(A)``, ``V(A) = A (1 - A) (1 + (m - 1)(1 - A) / (2 - A) +
    (m - 1) A / (1 + A)) / (P N)`` and ``m = (P + N) / 2``. The variance comes from the value tested, not from the data,
    so two positives are enough, an AUC of 1 too. Source: Newcombe 2006, method 5, on Hanley & McNeil's variance for
    exponential scores. Several images of a patient count as one, which makes the interval too wide rather than too
    short.

    Args:
        auc: the estimate.
        positives, negatives: patients with and without the disease.
        confidence: of the interval.
    """
    if np.isnan(auc) or positives < 1 or negatives < 1:
        return Interval(float("nan"), float("nan"))
    z = float(special.ndtri((1 + confidence) / 2))
    m = (positives + negatives) / 2

    def excess(a: float) -> float:
        factor = 1 + (m - 1) * ((1 - a) / (2 - a) + a / (1 + a))
        return (auc - a) ** 2 - z**2 * a * (1 - a) * factor / (positives * negatives)

    low = optimize.brentq(excess, 0, min(auc, 1 - 1e-12)) if auc > 0 else 0.0
    high = optimize.brentq(excess, max(auc, 1e-12), 1) if auc < 1 else 1.0
    return Interval(float(low), float(high))


def make_interval(
    kind: str,
    value: float,
    replicates: np.ndarray,
    confidence: float,
    *,
    left_out: np.ndarray | None = None,
    strata: np.ndarray | None = None,
    clusters: int = 0,
    is_difference: bool = False,
) -> Interval:
    """The interval of a kind in ``INTERVALS``.

    Raises:
        ValueError: another kind.
    """
    if kind == "percentile":
        return percentile_interval(replicates, confidence)
    if kind == "bca":
        return bca_interval(value, replicates, np.zeros(0) if left_out is None else left_out, confidence, strata)
    if kind == "beta":
        return beta_interval(value, replicates, clusters, confidence, -1.0 if is_difference else 0.0)
    raise ValueError(f"interval {kind!r} is none of {', '.join(INTERVALS)}")
