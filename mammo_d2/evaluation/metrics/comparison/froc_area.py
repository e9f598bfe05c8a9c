"""Area under the FROC curve up to a false-positive rate, for one data set or bootstrap replicates."""

from __future__ import annotations

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocEvents, count_above


class FrocAreaStatistic:
    """Mean sensitivity over false-positive rates from 0 to ``limit``, for patient weights (see ``bootstrap.py``).

    Formula: ``1 / limit * integral of sens(x) for x from 0 to limit`` of the FROC curve drawn as steps
    (``sensitivity_at`` with "step" and "hold"), which is the mean over lesions of ``max(0, 1 - x_u / limit)`` with
    ``x_u`` the false positives per image at the lesion's score. Differs from the mean over a few rates (LUNA16), which
    is a sum over a coarse grid, and from AFROC areas, whose x axis is the part of images with a false positive.

    Args:
        events: the matched events.
        patient: (N,) patient of each image.
        limit: in false positives per image, above 0.
    """

    def __init__(self, events: FrocEvents, patient: np.ndarray, limit: float = 1.0) -> None:
        if not limit > 0:
            raise ValueError(f"FROC area: limit {limit:g} false positives per image must be above 0")
        self.limit = limit
        self.keys = [f"froc_area@{limit:g}"]
        self._fp_patient, self._unit_patient = patient[events.fp_image], patient[events.unit_image]
        self._found = np.isfinite(events.unit_scores)
        # A lesion comes in together with the false positives of its score.
        self._at_or_above = count_above(events.fp_scores, events.unit_scores[self._found], inclusive=True)
        self._images = np.bincount(patient[events.counted], minlength=int(patient.max(initial=-1)) + 1)

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(1, b) areas for patient weights (M, b); NaN where no lesion or no counted image was drawn."""
        w = np.asarray(weights, float)
        images, units = self._images @ w, w[self._unit_patient]
        # Only sums at the lesions' places are needed: those of the false positives between two places.
        order = np.argsort(self._at_or_above, kind="stable")
        stops = self._at_or_above[order]
        sums = np.zeros((len(stops), w.shape[1]))
        start, total = 0, np.zeros(w.shape[1])
        for row, stop in enumerate(stops):
            if stop > start:
                total = total + w[self._fp_patient[start:stop]].sum(axis=0)
                start = stop
            sums[row] = total
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.clip(1 - sums / images / self.limit, 0, None)
            area = (units[self._found][order] * share).sum(axis=0) / units.sum(axis=0)
        return np.where((images > 0) & (units.sum(axis=0) > 0), area, np.nan)[None]
