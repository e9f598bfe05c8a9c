"""Running sums of patient weights along a sorted list of events, for many bootstrap replicates at once.

Naming: ``F`` events in falling score, ``M`` patients, ``b`` replicates. The sum after ``i`` events is the weight of the
first ``i`` events. Weights are summed in blocks, and single events are looked at only inside the block that matters,
so that a replicate costs about one addition per event and no sorting.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 64
_SEGMENT = 256  # blocks summed at a time: the gathered weights stay in the processor's cache


class WeightedSums:
    """Lazily extended block sums of ``weights[patient[i]]`` over events ``i``.

    Args:
        patient: (F,) patient of each event.
        weights: (M, b) unsigned integers.
    """

    def __init__(self, patient: np.ndarray, weights: np.ndarray) -> None:
        self.size, self.replicates = len(patient), weights.shape[1]
        most = int(weights.max(initial=0))
        # One more patient of weight 0 fills the last block. Small types: memory limits the speed.
        kind = np.uint8 if most < 2**8 else weights.dtype
        self._weights = np.concatenate(
            [weights, np.zeros((1, self.replicates), weights.dtype)], dtype=kind, casting="unsafe"
        )
        self._patient = patient
        self._filler = len(weights)
        self._total = -(-self.size // _BLOCK)
        self._sums = np.zeros((self._total + 1, self.replicates), np.int64)
        self._done = 0
        # Sums of a block must fit the type they are added in.
        self._type = np.uint16 if most * _BLOCK < 2**16 else np.uint64

    def _gather(self, first: int, last: int) -> np.ndarray:
        """Patients of the events of blocks first … last - 1, filled up."""
        rows = self._patient[first * _BLOCK : last * _BLOCK]
        short = (last - first) * _BLOCK - len(rows)
        return np.concatenate([rows, np.full(short, self._filler, rows.dtype)]) if short else rows

    def _extend(self, blocks: int) -> None:
        while self._done < min(blocks, self._total):
            stop = min(self._done + _SEGMENT, self._total)
            drawn = np.take(self._weights, self._gather(self._done, stop), axis=0)
            sums = drawn.reshape(stop - self._done, _BLOCK, self.replicates).sum(axis=1, dtype=self._type)
            part = np.cumsum(sums, axis=0, dtype=np.int64)
            self._sums[self._done + 1 : stop + 1] = self._sums[self._done] + part
            self._done = stop

    def _extend_beyond(self, limit: np.ndarray) -> None:
        while self._done < self._total and (self._sums[self._done] <= limit).any():
            self._extend(self._done + _SEGMENT)

    def _inside(self, block: np.ndarray, column: np.ndarray) -> np.ndarray:
        """(..., _BLOCK) weights of the events of a block in a replicate."""
        rows = block[..., None] * _BLOCK + np.arange(_BLOCK)
        patient = np.append(self._patient, self._filler)[np.minimum(rows, self.size)]
        return self._weights[patient, column[..., None]]

    def total(self) -> np.ndarray:
        """(b,) weight of all events."""
        self._extend(self._total)
        return self._sums[self._total]

    def first_exceeding(self, limits: np.ndarray) -> np.ndarray:
        """The first event whose running sum exceeds a limit.

        Args:
            limits: (R, b) float.

        Returns:
            (R, b) event numbers, ``F`` where the sum of all events stays within the limit.
        """
        self._extend_beyond(limits.max(axis=0))
        sums = self._sums[1 : self._done + 1]
        block = np.stack(
            [np.searchsorted(sums[:, c], limits[:, c], side="right") for c in range(self.replicates)], axis=1
        )
        if not self.size:
            return np.zeros_like(block)
        column = np.broadcast_to(np.arange(self.replicates), block.shape)
        reachable = np.minimum(block, self._total - 1)
        running = self._sums[reachable, column][..., None] + np.cumsum(self._inside(reachable, column), axis=-1)
        offset = np.argmax(running > limits[..., None], axis=-1)
        return np.where(block < self._total, block * _BLOCK + offset, self.size)

    def at(self, positions: np.ndarray) -> np.ndarray:
        """(R, b) running sums after ``positions[r, c]`` events in replicate ``c``."""
        if not self.size:
            return np.zeros(positions.shape, np.int64)
        block = positions // _BLOCK
        self._extend(int(block.max()) + 1)
        column = np.broadcast_to(np.arange(self.replicates), positions.shape)
        inside = self._inside(np.minimum(block, self._total - 1), column)
        before = np.arange(_BLOCK) < (positions - block * _BLOCK)[..., None]
        return self._sums[block, column] + np.where(before, inside, 0).sum(axis=-1, dtype=np.int64)

    def at_all(self, positions: np.ndarray, chunk: int = 1024) -> np.ndarray:
        """(T, b) running sums after ``positions[t]`` events, the same positions in every replicate."""
        if not self.size or not len(positions):
            return np.zeros((len(positions), self.replicates), np.int64)
        block = positions // _BLOCK
        self._extend(int(block.max()) + 1)
        out = self._sums[block]
        patient = np.append(self._patient, self._filler)
        for first in range(0, len(positions), chunk):
            rows = slice(first, first + chunk)
            inside = block[rows, None] * _BLOCK + np.arange(_BLOCK)
            inside = np.where(inside < positions[rows, None], np.minimum(inside, self.size), self.size)
            out[rows] += np.take(self._weights, patient[inside], axis=0).sum(axis=1, dtype=self._type).astype(np.int64)
        return out
