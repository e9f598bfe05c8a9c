"""Which patches of the training stream are stored for the aggregation network, and which of them an epoch uses.

Of the first epochs all patches are stored, of later ones those of lesions alone: an epoch has few of them (55 of 10 000
in the paper), and it is their number that limits what the aggregation network learns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mammo_d2.core.lesion_classes import BENIGN, MALIGNANT
from mammo_d2.data.lesions.patches import PatchSampler


class StoredEpochs:
    """The stored part of a stream of patches.

    Attributes:
        counts: numbers of epochs of which lesion patches, and of which the others are stored.
        length: patches of an epoch.
        positions: (n,) int64 of the stored patches in the stream, ascending; their places in it are the stored rows.
    """

    def __init__(self, sampler: PatchSampler, lesions: int, background: int):
        """
        Args:
            sampler: of the stream.
            lesions: number of epochs of which the lesion patches are stored.
            background: number of epochs, at most ``lesions``, of which all others are stored.
        """
        self.counts, self.length = (lesions, min(background, lesions)), sampler.length
        self._lesions: list[np.ndarray] = []
        self._background: list[np.ndarray] = []
        found, number = [], 0
        for epoch in range(lesions):
            is_lesion = np.isin(sampler.classes_of(epoch), (MALIGNANT, BENIGN))
            kept = np.arange(self.length) if epoch < self.counts[1] else np.flatnonzero(is_lesion)
            rows = number + np.arange(len(kept))
            self._lesions.append(rows[is_lesion[kept]])
            if epoch < self.counts[1]:
                self._background.append(rows[~is_lesion])
            found.append(epoch * self.length + kept)
            number += len(kept)
        self.positions = np.concatenate(found)

    def rows_of(self, epoch: int) -> np.ndarray:
        """(length,) int64 stored rows of an epoch; after the last stored one comes the first again."""
        lesions, background = self._lesions[epoch % self.counts[0]], self._background[epoch % self.counts[1]]
        return np.sort(np.concatenate([lesions, background]))


class StoredRows(Sequence[dict[str, Any]]):
    """Stored patches as records: ``embedding``, ``window``, ``patch_class`` and ``image``, the row of its source."""

    def __init__(self, stored: Mapping[str, np.ndarray]):
        """
        Args:
            stored: all arrays of an ``EmbeddingStore``.
        """
        self._stored = stored

    def __len__(self) -> int:
        return len(self._stored["embedding"])

    def __getitem__(self, row: Any) -> Any:
        stored = self._stored
        return {
            "embedding": stored["embedding"][row],
            "window": stored["window"][row],
            "patch_class": int(stored["patch_class"][row]),
            "image": int(stored["source"][row]),
        }
