"""The standard set of classification numbers, and their bootstrap replicates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.scores.curves import (
    ScoreTable,
    average_precision,
    partial_auc_ratio,
    probabilistic_f1,
    rates_at,
    roc_auc,
    score_table,
    sensitivity_at_specificity,
    specificity_at_sensitivity,
    tnr_at_fnr,
)
from mammo_d2.evaluation.metrics.scores.delong import wilson_interval
from mammo_d2.evaluation.metrics.scores.levels import LevelCases
from mammo_d2.evaluation.metrics.scores.replicate_tables import ReplicateTables


@dataclass(frozen=True)
class ScoreRule:
    """Options of the classification numbers.

    Attributes:
        threshold, strict: a case is called positive at score > threshold (strict) or >= threshold.
        min_sensitivity, normalization: of the partial AUC ratio, see ``partial_auc_ratio``.
        sensitivities: specificity is given at each of these, by steps (achievable).
        specificities: sensitivity is given at each of these, likewise.
        fnrs: TNR is given at each of these false negative rates, in whole cases.
    """

    threshold: float = 0.5
    strict: bool = True
    min_sensitivity: float = 0.8
    normalization: str = "jiang"
    sensitivities: tuple[float, ...] = (0.85,)
    specificities: tuple[float, ...] = (0.9,)
    fnrs: tuple[float, ...] = (0.0, 0.05)

    def __post_init__(self) -> None:
        if not np.isfinite(self.threshold):
            raise ValueError(f"score threshold {self.threshold} must be a finite number, e.g. 0.5")

    def __str__(self) -> str:
        return (
            f"called positive at score {'>' if self.strict else '>='} {self.threshold:g}; partial AUC ratio over "
            f"sensitivity [{self.min_sensitivity:g}, 1], normalization {self.normalization}, linear; specificity at "
            "sensitivity, sensitivity at specificity and TNR at FNR by steps; unknown truth masked"
        )


def score_metrics(table: ScoreTable, rule: ScoreRule, claimed: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """All numbers: auc, sensitivity, specificity, accuracy, pauc_ratio, spec@sens…, sens@spec…, tnr@fnr…, ap, pf1.

    Each has the table's replicate shape. ``pf1`` reads the scores as probabilities; for scores outside [0, 1] it is of
    the clipped ones; for ``claimed`` see there.
    """
    sensitivity, specificity, accuracy = rates_at(table, rule.threshold, rule.strict)
    numbers = {
        "auc": roc_auc(table),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "accuracy": accuracy,
        "pauc_ratio": partial_auc_ratio(table, rule.min_sensitivity, rule.normalization),
    }
    numbers |= {f"spec@sens{x:g}": specificity_at_sensitivity(table, x) for x in rule.sensitivities}
    numbers |= {f"sens@spec{x:g}": sensitivity_at_specificity(table, x) for x in rule.specificities}
    numbers |= {f"tnr@fnr{x:g}": tnr_at_fnr(table, x) for x in rule.fnrs}
    return numbers | {"ap": average_precision(table), "pf1": probabilistic_f1(table, claimed=claimed)}


def level_numbers(cases: LevelCases, rule: ScoreRule, keys: Sequence[str] = ()) -> dict[str, float]:
    """The numbers of one level (of ``keys`` only, if given) and ``num_positive``, ``num_negative``, ``num_unknown``."""
    numbers = {key: float(value) for key, value in score_metrics(score_table(cases.truth, cases.scores), rule).items()}
    positives = int(cases.truth.sum())
    return {key: numbers[key] for key in keys or numbers} | {
        "num_positive": float(positives),
        "num_negative": float(len(cases.truth) - positives),
        "num_unknown": float(cases.unknown),
    }


def wilson_intervals(cases: LevelCases, rule: ScoreRule, confidence: float) -> dict[str, tuple[float, float]]:
    """Wilson intervals of sensitivity, specificity and accuracy at the rule's threshold, for independent cases."""
    positive = cases.truth == 1
    right = (cases.scores > rule.threshold if rule.strict else cases.scores >= rule.threshold) == positive
    groups = {"sensitivity": right[positive], "specificity": right[~positive], "accuracy": right}
    return {name: wilson_interval(float(hit.sum()), len(hit), confidence) for name, hit in groups.items()}


class ScoreStatistic:
    """Classification numbers for patient weights (see ``bootstrap.py``).

    Args:
        cases: the cases.
        rule: which numbers.
        grid: false-positive rates at which the sensitivity is given too (linear between ROC points), for a band around
            a ROC curve; their rows follow the others and are named ``tpr@fpr<rate>``.
    """

    def __init__(self, cases: LevelCases, rule: ScoreRule, grid: Sequence[float] = ()) -> None:
        self.rule = rule
        self.grid = np.asarray(grid, float)
        self._tables = ReplicateTables(cases.truth, cases.scores, cases.patient, rule.threshold, rule.strict)
        names = score_metrics(score_table(cases.truth[:0], cases.scores[:0]), rule)
        self.keys = [*names, *(f"tpr@fpr{rate:g}" for rate in self.grid)]

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) numbers for patient weights (M, b); a sensitivity of the grid is NaN where a replicate lacks positives
        or negatives."""
        out = np.empty((len(self.keys), weights.shape[1]))
        first = len(self.keys) - len(self.grid)
        for columns, table, claimed in self._tables.tables(weights):
            for row, values in enumerate(score_metrics(table, self.rule, claimed).values()):
                out[row, columns] = values
            if len(self.grid):
                out[first:, columns] = roc_at(table, self.grid)
        return out


def roc_at(table: ScoreTable, fpr: np.ndarray) -> np.ndarray:
    """(R, b) sensitivities of a table's replicates at false-positive rates (R,), linear between ROC points."""
    tp, fp = table.tp, table.fp
    out = np.full((len(fpr), tp.shape[1]), np.nan)
    for c in np.flatnonzero((tp[-1] > 0) & (fp[-1] > 0)):
        out[:, c] = np.interp(fpr, fp[:, c] / fp[-1, c], tp[:, c] / tp[-1, c])
    return out


class MeanStatistic:
    """Weighted means of per-image numbers (saliency precision, pointing game, …), NaN entries left out of theirs.

    Args:
        values: (K, n) numbers of ``n`` images.
        keys: K names.
        patient: (n,) patient of each image.
    """

    def __init__(self, values: np.ndarray, keys: list[str], patient: np.ndarray) -> None:
        self.keys = keys
        self._known = ~np.isnan(values)
        self._values = np.where(self._known, values, 0.0)
        self._patient = patient

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) means for patient weights (M, b)."""
        drawn = weights[self._patient].astype(float)
        total, count = self._values @ drawn, self._known @ drawn
        return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)
