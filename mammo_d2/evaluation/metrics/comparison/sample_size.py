"""How many patients a difference takes, and the power of those there are."""

from __future__ import annotations

import math
from statistics import NormalDist

#: Normal quantiles of a two-sided level of 5 % and of a power of 80 %, as rounded in sample size tables.
LEVEL_QUANTILE, POWER_QUANTILE = 1.96, 0.84


def patients_needed(
    patients: int,
    error: float,
    difference: float,
    level_quantile: float = LEVEL_QUANTILE,
    power_quantile: float = POWER_QUANTILE,
) -> float:
    """How many test patients it would take to tell a difference from 0.

    Formula: ``n ((1.96 + 0.84) error / d)²``, rounded up: the standard error falls with the root of the number of
    patients, and a difference of ``1.96 + 0.84`` standard errors is found with a power of 80 % at a two-sided level of
    5 %. It holds for patients of the same mix and for these trainings: more patients do not lessen the variation
    between trainings.

    Args:
        patients: n, those tested.
        error: standard error of the difference on them.
        difference: d, the one to be told from 0. 0 takes infinitely many patients.
        level_quantile, power_quantile: for other levels and powers, see ``quantiles``. For non-inferiority give the
            expected difference plus the margin, and the quantile of the one-sided level.

    Returns:
        A whole number, infinity, or NaN where an argument is NaN.
    """
    if math.isnan(error) or math.isnan(difference):
        return math.nan
    if difference == 0:
        return math.inf
    # A hair less, so that rounding errors do not add a patient.
    return float(math.ceil(patients * ((level_quantile + power_quantile) * error / difference) ** 2 * (1 - 1e-12)))


def quantiles(level: float, power: float, *, two_sided: bool = True) -> tuple[float, float]:
    """Normal quantiles of a level and a power, exact (the constants of this module are rounded).

    Raises:
        ValueError: a level or power outside (0, 1).
    """
    if not 0 < level < 1 or not 0 < power < 1:
        raise ValueError(f"level {level:g} and power {power:g} must lie between 0 and 1, e.g. 0.05 and 0.8")
    return NormalDist().inv_cdf(1 - (level / 2 if two_sided else level)), NormalDist().inv_cdf(power)


def power_of(patients: int, error: float, difference: float, needed_for: int, level: float = 0.05) -> float:
    """Power of a two-sided test of a difference with ``needed_for`` patients, from the error on ``patients`` of them.

    Formula: ``Phi(|d| / e - z) + Phi(-|d| / e - z)`` with ``e = error sqrt(patients / needed_for)``.
    """
    z = quantiles(level, 0.5)[0]
    shift = abs(difference) / (error * (patients / needed_for) ** 0.5)
    return NormalDist().cdf(shift - z) + NormalDist().cdf(-shift - z)


def auc_variance(auc: float, positives: float, negatives: float) -> float:
    """Variance of an empirical AUC before there are data (Hanley & McNeil 1982, exponential scores).

    Formula: ``(A (1 - A) + (P - 1)(Q1 - A²) + (N - 1)(Q2 - A²)) / (P N)``, ``Q1 = A / (2 - A)``,
    ``Q2 = 2 A² / (1 + A)``.
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    spread = auc * (1 - auc) + (positives - 1) * (q1 - auc**2) + (negatives - 1) * (q2 - auc**2)
    return spread / (positives * negatives)


def patients_for_auc(
    first: float,
    second: float,
    prevalence: float,
    correlation: float = 0.5,
    margin: float = 0.0,
    level: float = 0.05,
    power: float = 0.8,
) -> int:
    """Patients for a paired comparison of two AUCs without pilot data.

    Formula: the smallest n with ``|d| >= (z + z_power) sqrt(V1 + V2 - 2 r sqrt(V1 V2))``, ``V`` by ``auc_variance``
    with ``prevalence n`` positives; with a margin, ``d = second - first + margin`` and z of the one-sided level
    ``level / 2`` (non-inferiority). One case per patient. Source: Hanley & McNeil 1983.

    Args:
        first, second: expected AUCs of the reference and the new system.
        prevalence: part of positive patients in the test set.
        correlation: r of the two estimates; 0.3 to 0.6 is usual for two readings of the same images.
        margin: above 0 for non-inferiority.
        level, power: two-sided level (one-sided: half of it) and power.

    Raises:
        ValueError: numbers out of range, or nothing to detect.
    """
    for name, value in (("AUC", first), ("AUC", second), ("prevalence", prevalence)):
        if not 0 < value < 1:
            raise ValueError(f"{name} {value:g} must lie between 0 and 1")
    if not 0 <= correlation < 1:
        raise ValueError(f"correlation {correlation:g} must lie in [0, 1)")
    difference = second - first + margin if margin > 0 else abs(second - first)
    if difference <= 0:
        raise ValueError(f"AUCs {first:g} and {second:g}, margin {margin:g}: there is no difference to show")
    total = sum(quantiles(level, power))

    def enough(n: int) -> bool:
        positives, negatives = prevalence * n, (1 - prevalence) * n
        v1, v2 = auc_variance(first, positives, negatives), auc_variance(second, positives, negatives)
        return difference >= total * math.sqrt(v1 + v2 - 2 * correlation * math.sqrt(v1 * v2))

    high = math.ceil(1 / min(prevalence, 1 - prevalence))
    low = high
    while not enough(high):
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def pairs_for_sensitivity(second_only: float, first_only: float, level: float = 0.05, power: float = 0.8) -> int:
    """Pairs (positive patients for a sensitivity, negative ones for a specificity) for McNemar's test.

    Formula: ``(z sqrt(d) + z_power sqrt(d - (b - c)²))² / (b - c)²``, rounded up, with the parts ``b`` and ``c`` of
    pairs that only one system gets right and ``d = b + c``. Source: Connor 1987.

    Raises:
        ValueError: parts that are no probabilities, or equal.
    """
    change, discordant = second_only - first_only, second_only + first_only
    if not 0 <= min(second_only, first_only) or not 0 < discordant <= 1:
        raise ValueError(f"discordant parts {second_only:g} and {first_only:g} must be 0 or more and sum to at most 1")
    if change == 0:
        raise ValueError(f"discordant parts {second_only:g} and {first_only:g} are equal: no difference to show")
    z, z_power = quantiles(level, power)
    root = z * math.sqrt(discordant) + z_power * math.sqrt(discordant - change**2)
    return math.ceil(root**2 / change**2 * (1 - 1e-12))
