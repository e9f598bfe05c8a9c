"""Multi-reader multi-case tests: Obuchowski & Rockette's and Dorfman, Berbaum & Metz's analysis of figures of merit.

Naming: ``T`` treatments, ``R`` readers, ``K`` cases; ``MS`` mean squares. Readers and cases may each be a random sample
of a population ("random") or the only ones the result is about ("fixed").
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy import stats

from mammo_d2.evaluation.metrics.readers.reader_figures import ReaderFigures

#: The three analyses: which of readers and cases are random samples.
ANALYSES = ("random readers, random cases", "fixed readers, random cases", "random readers, fixed cases")
METHODS = ("or", "dbm")


@dataclass(frozen=True)
class ReaderDifference:
    """Mean over readers of one treatment minus another: ``df`` inf means a normal distribution."""

    first: int
    second: int
    difference: float
    error: float
    df: float
    p: float
    low: float
    high: float


@dataclass(frozen=True)
class TreatmentMean:
    """Mean over readers of one treatment, with its interval from that treatment's data alone."""

    treatment: int
    value: float
    error: float
    df: float
    low: float
    high: float


@dataclass(frozen=True)
class ReaderAnalysis:
    """One analysis: test of equal treatments (``ddf`` inf: ``f`` times ``ndf`` is a chi-square), and what follows."""

    name: str
    f: float
    ndf: float
    ddf: float
    p: float
    differences: tuple[ReaderDifference, ...]
    means: tuple[TreatmentMean, ...]


@dataclass(frozen=True)
class ErrorCovariances:
    """Jackknife covariances of the figures, as Obuchowski & Rockette name them, averaged over what they share.

    ``var``: variance; ``cov1``: one reader, two treatments; ``cov2``: two readers, one treatment; ``cov3``: both
    differ. NaN where there is no such pair. ``var_reader`` and ``var_treatment_reader``: variance components.
    """

    var: float
    cov1: float
    cov2: float
    cov3: float
    var_reader: float
    var_treatment_reader: float


@dataclass(frozen=True)
class ReaderStudyResult:
    """Figures (T, R), mean squares by name, covariances, and the three analyses (in the order of ``ANALYSES``)."""

    method: str
    figure: str
    values: np.ndarray
    mean_squares: dict[str, float]
    covariances: ErrorCovariances
    analyses: tuple[ReaderAnalysis, ...]


def jackknife_covariance(left_out: np.ndarray) -> np.ndarray:
    """(n, n) covariance of n figures from their values (n, K) without each case: ``(K - 1)² / K`` times the sample
    covariance."""
    cases = left_out.shape[1]
    centred = left_out - left_out.mean(axis=1, keepdims=True)
    return (cases - 1) / cases * (centred @ centred.T)


def error_covariances(figures: ReaderFigures) -> ErrorCovariances:
    """Averages over the jackknife covariance matrix, and the variance components of readers that follow from it."""
    treatments, readers, _ = figures.left_out.shape
    matrix = jackknife_covariance(figures.left_out.reshape(treatments * readers, -1))
    blocks = matrix.reshape(treatments, readers, treatments, readers)
    same_t = np.eye(treatments, dtype=bool)[:, None, :, None]
    same_r = np.eye(readers, dtype=bool)[None, :, None, :]

    def mean(chosen: np.ndarray) -> float:
        chosen = np.broadcast_to(chosen, blocks.shape)
        return float(blocks[chosen].mean()) if chosen.any() else float("nan")

    var, cov1 = mean(same_t & same_r), mean(~same_t & same_r)
    cov2, cov3 = mean(same_t & ~same_r), mean(~same_t & ~same_r)
    squares = figure_squares(figures.values)
    between = squares["TR"] if treatments > 1 else 0.0
    var_tr = squares["TR"] - (var - cov1 - (cov2 - cov3))
    var_r = (squares["R"] - between) / treatments - cov1 + cov3
    return ErrorCovariances(var, cov1, cov2, cov3, var_r, var_tr)


def figure_squares(values: np.ndarray) -> dict[str, float]:
    """Mean squares "T", "R" and "TR" of the two-way table (T, R); NaN where there is one row or column only."""
    treatments, readers = values.shape
    by_t, by_r, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    residual = values - by_t[:, None] - by_r[None] + mean
    return {
        "T": _over(readers * ((by_t - mean) ** 2).sum(), treatments - 1),
        "R": _over(treatments * ((by_r - mean) ** 2).sum(), readers - 1),
        "TR": _over((residual**2).sum(), (treatments - 1) * (readers - 1)),
    }


def _over(total: float, df: int) -> float:
    return float(total) / df if df else float("nan")


def obuchowski_rockette(figures: ReaderFigures, confidence: float = 0.95) -> ReaderStudyResult:
    """Test treatments by the figures of merit and the covariances of their errors.

    Formula: with mean squares over the T x R table, random readers and cases: ``F = MS(T) / D``,
    ``D = MS(TR) + max(R (Cov2 - Cov3), 0)``, ``ddf = D² / (MS(TR)² / ((T - 1)(R - 1)))`` (Hillis's degrees of freedom);
    fixed readers: ``chi² = (T - 1) MS(T) / (Var - Cov1 + (R - 1) max(Cov2 - Cov3, 0))``; fixed cases:
    ``F = MS(T) / MS(TR)``. Covariances by the jackknife over cases, so cases must be independent: a case is a patient,
    or an image only where patients have one.

    Source: Obuchowski & Rockette 1995; Hillis 2007.

    Args:
        figures: of T treatments and R readers; with one treatment only its interval is there, with one reader only
            the analysis for fixed readers; the rest is NaN.
        confidence: of the intervals.
    """
    covariances, squares = error_covariances(figures), figure_squares(figures.values)
    treatments, readers = figures.values.shape
    c = covariances
    extra = max(c.cov2 - c.cov3, 0.0) if readers > 1 and treatments > 1 else 0.0
    random, fixed = squares["TR"] + readers * extra, c.var - c.cov1 + (readers - 1) * extra
    df = (treatments - 1) * (readers - 1)
    denominators = (
        (random, _hillis(random, squares["TR"], df)),
        (fixed, float("inf")),
        (squares["TR"], float(df) if df else float("nan")),
    )
    return _result("or", figures, squares, covariances, denominators, squares["T"], confidence)


def dorfman_berbaum_metz(figures: ReaderFigures, confidence: float = 0.95) -> ReaderStudyResult:
    """Test treatments by an analysis of variance of the cases' pseudovalues.

    Formula: pseudovalues ``K theta - (K - 1) theta_without_k``, shifted so that their mean is ``theta``; random readers
    and cases: ``F = MS(T) / (MS(TR) + max(MS(TC) - MS(TRC), 0))``; fixed readers: ``F = MS(T) / MS(TC)`` on
    ``(T - 1)(K - 1)`` degrees of freedom; fixed cases: ``F = MS(T) / MS(TR)``. For random readers and cases it is the
    same test as Obuchowski & Rockette's with jackknife covariances.

    Source: Dorfman, Berbaum & Metz 1992; Hillis, Berbaum & Metz 2008. With a free-response figure this is JAFROC.
    """
    treatments, readers, cases = figures.left_out.shape
    pseudo = pseudovalues(figures)
    squares = pseudovalue_squares(pseudo)
    df = (treatments - 1) * (readers - 1)
    extra = max(squares["TC"] - squares["TRC"], 0.0) if df else 0.0
    random = squares["TR"] + extra
    fixed_df = float((treatments - 1) * (cases - 1)) or float("nan")
    denominators = (
        (random / cases, _hillis(random, squares["TR"], df)),
        (squares["TC"] / cases, fixed_df),
        (squares["TR"] / cases, float(df) if df else float("nan")),
    )
    covariances = error_covariances(figures)
    return _result("dbm", figures, squares, covariances, denominators, squares["T"] / cases, confidence)


def pseudovalues(figures: ReaderFigures) -> np.ndarray:
    """(T, R, K) jackknife pseudovalues with the figures as their means."""
    cases = figures.left_out.shape[2]
    values = figures.values[..., None]
    raw = cases * values - (cases - 1) * figures.left_out
    return raw + values - raw.mean(axis=2, keepdims=True)


def pseudovalue_squares(pseudo: np.ndarray) -> dict[str, float]:
    """Mean squares of a T x R x K table: "T", "R", "C", "TR", "TC", "RC", "TRC"."""
    means = {
        name: pseudo.mean(axis=axes, keepdims=True)
        for name, axes in {
            "": (0, 1, 2), "T": (1, 2), "R": (0, 2), "C": (0, 1), "TR": (2,), "TC": (1,), "RC": (0,), "TRC": (),
        }.items()
    }  # fmt: skip
    sizes = dict(zip("TRC", pseudo.shape, strict=True))
    effects: dict[str, np.ndarray] = {"": means[""]}
    squares = {}
    for name in ("T", "R", "C", "TR", "TC", "RC", "TRC"):
        parts = [part for n in range(len(name)) for part in map("".join, combinations(name, n))]
        effects[name] = means[name] - sum(effects[part] for part in parts)
        copies = pseudo.size / effects[name].size
        df = int(np.prod([sizes[letter] - 1 for letter in name]))
        squares[name] = _over(copies * float((effects[name] ** 2).sum()), df)
    return squares


def _hillis(denominator: float, interaction: float, df: int) -> float:
    if not df:
        return float("nan")
    return denominator**2 / (interaction**2 / df) if interaction > 0 else float("inf")


def _result(
    method: str,
    figures: ReaderFigures,
    squares: dict[str, float],
    covariances: ErrorCovariances,
    denominators: tuple[tuple[float, float], ...],
    treatment_square: float,
    confidence: float,
) -> ReaderStudyResult:
    analyses = []
    for number, (name, (denominator, ddf)) in enumerate(zip(ANALYSES, denominators, strict=True)):
        treatments, readers = figures.values.shape
        f = treatment_square / denominator if denominator > 0 else float("nan")
        p = float(stats.chi2.sf(f * (treatments - 1), treatments - 1)) if np.isinf(ddf) else _f_tail(f, treatments, ddf)
        error = (2 / readers * denominator) ** 0.5 if denominator > 0 else float("nan")
        means = figures.values.mean(axis=1)
        differences = tuple(
            ReaderDifference(a, b, *_interval(float(means[a] - means[b]), error, ddf, confidence))
            for a, b in combinations(range(treatments), 2)
        )
        singles = tuple(_treatment_mean(figures, t, number, confidence) for t in range(treatments))
        analyses.append(ReaderAnalysis(name, f, treatments - 1, ddf, p, differences, singles))
    return ReaderStudyResult(method, figures.figure, figures.values, squares, covariances, tuple(analyses))


def _f_tail(f: float, treatments: int, ddf: float) -> float:
    return float(stats.f.sf(f, treatments - 1, ddf)) if treatments > 1 else float("nan")


def _interval(value: float, error: float, df: float, confidence: float) -> tuple[float, ...]:
    """Value, error, df, two-sided p against 0, and limits; Student's t, normal for infinite df."""
    half = float(stats.t.ppf((1 + confidence) / 2, df)) * error
    p = float(2 * stats.t.sf(abs(value) / error, df)) if error > 0 else float("nan")
    return value, error, df, p, value - half, value + half


def _treatment_mean(figures: ReaderFigures, treatment: int, analysis: int, confidence: float) -> TreatmentMean:
    """Interval of one treatment's mean from its own data: ``(MS(R) + R max(Cov2, 0)) / R`` for random readers and
    cases, ``(Var + (R - 1) max(Cov2, 0)) / R`` for fixed readers, ``MS(R) / R`` for fixed cases."""
    values = figures.values[treatment]
    readers = len(values)
    matrix = jackknife_covariance(figures.left_out[treatment])
    var = float(np.diag(matrix).mean())
    cov2 = float((matrix.sum() - np.trace(matrix)) / (readers * (readers - 1))) if readers > 1 else 0.0
    spread = float(np.var(values, ddof=1)) if readers > 1 else float("nan")
    if analysis == 0:
        variance = spread + readers * max(cov2, 0.0)
        df = variance**2 / (spread**2 / (readers - 1)) if readers > 1 and spread > 0 else float("nan")
    elif analysis == 1:
        variance, df = var + (readers - 1) * max(cov2, 0.0), float("inf")
    else:
        variance, df = spread, float(readers - 1) or float("nan")
    value, error, df, _, low, high = _interval(float(values.mean()), (variance / readers) ** 0.5, df, confidence)
    return TreatmentMean(treatment, value, error, df, low, high)
