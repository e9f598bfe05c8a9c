"""Decision curves: the net benefit of acting on a probability above a threshold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mammo_d2.evaluation.metrics.calibration.calibration_error import check_probabilities
from mammo_d2.evaluation.metrics.scores.curves import ScoreIndex


def net_benefit(
    sensitivity: np.ndarray, false_positive_rate: np.ndarray, prevalence: np.ndarray | float, threshold: np.ndarray
) -> np.ndarray:
    """True positives per person, minus false positives at their exchange rate.

    Formula: ``p TPR - (1 - p) FPR t / (1 - t)`` with prevalence p and threshold probability t (Vickers & Elkin 2006):
    whoever acts at a risk of t holds (1 - t) / t false positives worth one true positive.
    """
    return prevalence * sensitivity - (1 - prevalence) * false_positive_rate * threshold / (1 - threshold)


class NetBenefitStatistic:
    """Net benefit of a model at threshold probabilities, for patient weights (see ``bootstrap.py``).

    Keys ``net_benefit@t``, and ``recall_all@t`` of acting on everybody; acting on nobody has net benefit 0. A case
    counts as positive at probability >= t. The scores must be calibrated for the population: a net benefit of scores
    that are no probabilities of it means nothing.

    Args:
        truth, scores: (n,), probabilities.
        patient: (n,) patient of each case.
        thresholds: each in (0, 1), e.g. 0.005 to 0.1 for recall from screening.
        prevalence: of the population, for data with another mix; None takes that of the data.

    Raises:
        ValueError: scores, thresholds or a prevalence out of range.
    """

    def __init__(
        self,
        truth: np.ndarray,
        scores: np.ndarray,
        patient: np.ndarray,
        thresholds: Sequence[float],
        prevalence: float | None = None,
    ) -> None:
        check_probabilities(truth, scores)
        for name, value in (*(("threshold", t) for t in thresholds), ("prevalence", prevalence)):
            if value is not None and not 0 < value < 1:
                raise ValueError(f"decision curve: {name} {value:g} must lie between 0 and 1")
        self.thresholds = np.asarray(thresholds, float)
        self.keys = [f"{kind}@{t:g}" for kind in ("net_benefit", "recall_all") for t in self.thresholds]
        self._index, self._patient, self._prevalence = ScoreIndex(truth, scores), patient, prevalence
        self._row = (self._index.thresholds[:, None] >= self.thresholds).sum(axis=0)

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(2 T, b) net benefits for patient weights (M, b); NaN where a class was not drawn."""
        table = self._index.table(weights[self._patient])
        tp, fp = table.tp, table.fp
        with np.errstate(divide="ignore", invalid="ignore"):
            prevalence = tp[-1] / (tp[-1] + fp[-1]) if self._prevalence is None else self._prevalence
            model = net_benefit(tp[self._row] / tp[-1], fp[self._row] / fp[-1], prevalence, self.thresholds[:, None])
        everybody = net_benefit(np.ones(1), np.ones(1), prevalence, self.thresholds[:, None])
        defined = (tp[-1] > 0) & (fp[-1] > 0)
        return np.where(defined, np.concatenate([model, np.broadcast_to(everybody, model.shape)]), np.nan)
