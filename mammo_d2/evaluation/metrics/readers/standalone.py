"""A system that reads alone against readers of the same cases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from mammo_d2.evaluation.metrics.readers.multi_reader import jackknife_covariance
from mammo_d2.evaluation.metrics.readers.reader_figures import ReaderFigures


@dataclass(frozen=True)
class StandaloneTest:
    """Mean of the readers minus the system: ``error``, ``t``, ``df``, two-sided ``p`` and limits."""

    difference: float
    error: float
    t: float
    df: float
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class StandaloneResult:
    """Figures of the system and of the readers, and the test by which cases are random or fixed.

    ``var`` and ``cov2`` are the jackknife variance of a reader's difference to the system, and the covariance of two
    readers' differences; ``var_reader`` is the variance between the readers' figures.
    """

    system: float
    readers: np.ndarray
    var_reader: float
    var: float
    cov2: float
    random_cases: StandaloneTest
    fixed_cases: StandaloneTest


def standalone_against_readers(figures: ReaderFigures, system: int, confidence: float = 0.95) -> StandaloneResult:
    """Compare a system with the average of at least two readers; readers are a random sample, the system is not.

    Formula: with the R differences ``d_j`` of readers to the system, random cases:
    ``t = mean(d) / sqrt((MS + R max(Cov2, 0)) / R)``, ``MS`` their variance, on
    ``(R - 1) ((MS + R max(Cov2, 0)) / MS)²`` degrees of freedom; fixed cases: the one-sample t test of ``d``.

    Source: Hillis 2007, section 5.3, as applied by Chakraborty to standalone CAD; RJafroc's 1T-RRRC and 1T-RRFC.

    Args:
        figures: of one treatment; one of its readers is the system.
        system: number of that reader.
        confidence: of the intervals.

    Raises:
        ValueError: several treatments, or fewer than two readers beside the system.
    """
    treatments, everybody = figures.values.shape
    if treatments != 1 or everybody < 3:
        raise ValueError(
            f"standalone comparison: {treatments} treatments and {everybody - 1} readers beside the system; it needs "
            "one treatment and at least two readers"
        )
    others = np.arange(everybody) != system
    values, left_out = figures.values[0], figures.left_out[0]
    differences = values[others] - values[system]
    readers = len(differences)
    matrix = jackknife_covariance(left_out[others] - left_out[system])
    cov2 = float((matrix.sum() - np.trace(matrix)) / (readers * (readers - 1)))
    spread = float(np.var(differences, ddof=1))
    with_cases = spread + readers * max(cov2, 0.0)
    df = (readers - 1) * (with_cases / spread) ** 2 if spread > 0 else float("inf")
    return StandaloneResult(
        float(values[system]),
        values[others],
        spread,
        float(np.diag(matrix).mean()),
        cov2,
        _test(differences, with_cases, df, confidence),
        _test(differences, spread, readers - 1.0, confidence),
    )


def _test(differences: np.ndarray, variance: float, df: float, confidence: float) -> StandaloneTest:
    mean, error = float(differences.mean()), (variance / len(differences)) ** 0.5
    t = mean / error if error > 0 else float("nan")
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    return StandaloneTest(mean, error, t, df, float(2 * stats.t.sf(abs(t), df)), mean - half, mean + half)
