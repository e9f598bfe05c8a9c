"""FROC sensitivities of bootstrap replicates: sort once, then running sums of patient weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocEvents, FrocRule, count_above
from mammo_d2.evaluation.metrics.weighted_sums import EventBlocks, WeightedSums

_ROUNDING = 1e-12


class FrocStatistic:
    """Sensitivity at false-positive rates, and its mean, for patient weights (see ``bootstrap.py``).

    Each number equals, to the last bit, that of ``sensitivity_at`` on the curve of the copied data set.

    Args:
        events: the matched events.
        patient: (N,) patient of each image.
        rule: interpolation, what happens beyond the last point, rates and the rates of the mean.
        grid: further rates for a confidence band; their rows follow the others and are named ``band@<rate>``.
    """

    def __init__(self, events: FrocEvents, patient: np.ndarray, rule: FrocRule, grid: Sequence[float] = ()) -> None:
        self.rule = rule
        self.rates = np.asarray(rule.rates, float)
        self.mean_rates = np.asarray(rule.mean_rates or rule.rates, float)
        self.grid = np.asarray(grid, float)
        self.keys = [f"sens@{rate:g}" for rate in self.rates] + ["mean_sens"] + [f"band@{rate:g}" for rate in grid]
        self._fp_scores = events.fp_scores
        self._false = EventBlocks(patient[events.fp_image])
        self._unit_patient = patient[events.unit_image]
        self._unit_scores = events.unit_scores
        self._found = int(np.isfinite(events.unit_scores).sum())
        self._images = np.bincount(patient[events.counted], minlength=int(patient.max(initial=-1)) + 1)

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(K, b) sensitivities for patient weights (M, b); NaN where no unit or no counted image was drawn."""
        images = np.tensordot(self._images, weights.astype(np.int64), axes=1)
        units = np.zeros((len(self._unit_patient) + 1, weights.shape[1]), np.int64, order="F")
        np.cumsum(np.asfortranarray(np.take(weights, self._unit_patient, axis=0)), axis=0, out=units[1:])
        rates = np.unique(np.concatenate([self.rates, self.mean_rates, self.grid]))
        values = self._sensitivity(rates, images, units, WeightedSums(self._false, weights))
        chosen = values[np.searchsorted(rates, self.mean_rates)]
        # Summed one by one: np.mean regroups with the number of replicates, which would change the last bit.
        mean = np.cumsum(chosen, axis=0)[-1:] / len(chosen)
        return np.vstack([values[np.searchsorted(rates, self.rates)], mean, values[np.searchsorted(rates, self.grid)]])

    def _sensitivity(self, rates: np.ndarray, images: np.ndarray, units: np.ndarray, false: WeightedSums) -> np.ndarray:
        column = np.arange(units.shape[1])
        with np.errstate(divide="ignore", invalid="ignore"):
            # fp / images <= rate, asked in the same floating-point terms as on a curve
            limits = rates[:, None] * (1 + _ROUNDING) * images
            first = false.first_exceeding(limits)
            reached = first < false.size
            score = np.append(self._fp_scores, -np.inf)[first]
            above = np.where(reached, count_above(self._unit_scores, score), self._found)
            value = units[above, column] / units[-1]
            if self.rule.interpolation == "linear" and len(self._fp_scores):
                begin = count_above(self._fp_scores, score)
                end = np.where(reached, count_above(self._fp_scores, score, True), begin)
                x0, x1 = false.at(begin) / images, false.at(end) / images
                through = np.where(reached, count_above(self._unit_scores, score, True), above)
                step = units[through, column] / units[-1] - value
                share = np.maximum(rates[:, None] - x0, 0.0) / (x1 - x0)
                value = np.where(reached, value + share * step, value)
            if self.rule.beyond == "nan":
                last = false.total() / images
                value = np.where(~reached & (rates[:, None] > last * (1 + _ROUNDING)), np.nan, value)
        return np.where((images > 0) & (units[-1] > 0), value, np.nan)
