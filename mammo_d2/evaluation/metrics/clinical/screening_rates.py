"""Numbers of a screening programme at one threshold: recall rate, cancer detection rate, predictive value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from mammo_d2.evaluation.metrics.scores.curves import ScoreIndex

_ROUNDING = 1e-12  # as in curves.py: a sensitivity of 0.8 of 5 positives is 4 of them

#: The numbers at each sensitivity, see ``ScreeningStatistic``.
SCREENING_KEYS = ("recall_rate", "cancers_per_1000", "recalled_per_cancer", "ppv", "specificity")


class ScreeningStatistic:
    """Screening numbers at the threshold that reaches a sensitivity, for patient weights (see ``bootstrap.py``).

    Formula: with prevalence p, and TPR and FPR at the highest threshold that reaches the sensitivity: recall rate
    ``p TPR + (1 - p) FPR``; cancers per 1,000 screened ``1000 p TPR``; recalled per cancer found: their ratio;
    predictive value of a recall (PPV1) its inverse. The threshold is chosen anew in every replicate, so intervals cover
    the choice. In data enriched with cancers give the prevalence of the programme: else rates are the data
    set's own.

    Keys: ``recall_rate@sens0.9`` and so on.

    Args:
        truth, scores: (n,) one case per woman.
        patient: (n,) patient of each case.
        sensitivities: each in (0, 1].
        prevalence: of the programme, e.g. 0.006; None takes that of the data.
    """

    def __init__(
        self,
        truth: np.ndarray,
        scores: np.ndarray,
        patient: np.ndarray,
        sensitivities: Sequence[float] = (0.8, 0.9),
        prevalence: float | None = None,
    ) -> None:
        if wrong := [s for s in sensitivities if not 0 < s <= 1]:
            raise ValueError(f"screening: sensitivity {wrong[0]:g} must lie in (0, 1]")
        if prevalence is not None and not 0 < prevalence < 1:
            raise ValueError(f"screening: prevalence {prevalence:g} must lie between 0 and 1, e.g. 0.006")
        self.sensitivities, self._prevalence = tuple(sensitivities), prevalence
        self.keys = [f"{key}@sens{s:g}" for s in self.sensitivities for key in SCREENING_KEYS]
        self._index, self._patient = ScoreIndex(truth, scores), patient

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) numbers for patient weights (M, b); NaN where a class was not drawn."""
        table = self._index.table(weights[self._patient])
        tp, fp = table.tp, table.fp
        rows = []
        with np.errstate(divide="ignore", invalid="ignore"):
            share = tp[-1] / (tp[-1] + fp[-1]) if self._prevalence is None else self._prevalence
            for sensitivity in self.sensitivities:
                row = np.argmax(tp >= sensitivity * tp[-1] * (1 - _ROUNDING), axis=0)[None]
                tpr = np.take_along_axis(tp, row, axis=0)[0] / tp[-1]
                fpr = np.take_along_axis(fp, row, axis=0)[0] / fp[-1]
                found = share * tpr
                recalled = found + (1 - share) * fpr
                rows += [recalled, 1000 * found, recalled / found, found / recalled, 1 - fpr]
        defined = (tp[-1] > 0) & (fp[-1] > 0)
        return np.where(defined, np.stack(rows), np.nan)


def detection_rate_interval(cancers: int, screened: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact Poisson limits of a cancer detection rate per 1,000, for cancers found among women screened.

    Formula: chi-square quantiles (Garwood 1936). For a threshold fixed before the data; NaN for nobody screened.
    """
    if screened <= 0:
        return math.nan, math.nan
    tail = (1 - confidence) / 2
    low = float(stats.chi2.ppf(tail, 2 * cancers)) / 2 if cancers else 0.0
    high = float(stats.chi2.ppf(1 - tail, 2 * cancers + 2)) / 2
    return 1000 * low / screened, 1000 * high / screened
