"""AFROC and wAFROC area of one system's detections, for one data set or bootstrap replicates."""

from __future__ import annotations

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocEvents
from mammo_d2.evaluation.metrics.readers.reader_figures import equal_weights
from mammo_d2.evaluation.metrics.scores.curves import ScoreIndex, roc_auc


class AfrocStatistic:
    """AFROC and wAFROC area for patient weights (see ``bootstrap.py``), as ``reader_figures`` defines them.

    An image is a case: normal images give their highest false positive, -inf without one; lesions their score, -inf if
    they were never found. A lesion and an image without any mark count as a tie.

    Args:
        events: matched events of a rule with recall of lesions.
        patient: (N,) patient of each image.
    """

    keys = ("afroc", "wafroc")

    def __init__(self, events: FrocEvents, patient: np.ndarray) -> None:
        images = len(events.counted)
        highest = np.full(images, -np.inf)
        np.maximum.at(highest, events.fp_image, events.fp_scores)
        normal = np.flatnonzero(events.counted & (np.bincount(events.unit_image, minlength=images) == 0))
        truth = np.repeat([0, 1], [len(normal), len(events.unit_image)])
        self._index = ScoreIndex(truth, np.concatenate([highest[normal], events.unit_scores]))
        self._patient = patient[np.concatenate([normal, events.unit_image])]
        self._weights = np.concatenate([np.ones(len(normal)), equal_weights(events.unit_image)])

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(2, b) areas for patient weights (M, b); NaN where no lesion or no normal image was drawn."""
        drawn = weights[self._patient].astype(float)
        weighted = self._index.table(drawn * self._weights[:, None])
        return np.stack([roc_auc(self._index.table(drawn)), roc_auc(weighted)])
