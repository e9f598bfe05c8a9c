"""Running sums of patient weights along a sorted list of events, for many bootstrap replicates at once.

Naming: ``F`` events in falling score, ``M`` patients, ``b`` replicates. The sum after ``i`` events is the weight of the
first ``i`` events. Weights are summed in blocks, and single events are looked at only inside the block that matters,
so that a replicate costs about one addition per event and no sorting. The sums are products of a sparse matrix (which
event is whose) with the weights, in whole numbers of 16 bits where those are enough: they are exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

_BLOCK = 64
_SEGMENT = 1024  # blocks summed at a time
_CELLS = 1 << 17  # rows x replicates of float64 tables at a time
_LONGEST = 4096  # events summed in 16 bits: weights up to 15 fit, and a bootstrap hardly ever draws a patient as often


def replicate_parts(rows: int, replicates: int) -> Iterator[slice]:
    """Replicates of a table of ``rows`` in parts that stay in the processor's cache; at least one part."""
    step = max(_CELLS // max(rows, 1), 1)
    for first in range(0, max(replicates, 1), step):
        yield slice(first, min(first + step, replicates))


class SegmentSums:
    """Sums of patient weights over consecutive events.

    Args:
        patient: (F,) patient of each event.
        bounds: (S + 1,) whole numbers, not falling: segment ``s`` is the events ``bounds[s]`` … ``bounds[s + 1] - 1``.
    """

    def __init__(self, patient: np.ndarray, bounds: np.ndarray) -> None:
        lengths = np.diff(bounds)
        pieces = np.maximum(-(-lengths // _LONGEST), 1)
        self._first = None if (pieces == 1).all() else np.cumsum(pieces) - pieces
        if self._first is not None:
            within = np.arange(pieces.sum()) - np.repeat(self._first, pieces)
            bounds = np.append(np.repeat(bounds[:-1], pieces) + within * _LONGEST, bounds[-1])
        self._longest = int(np.diff(bounds).max(initial=0))
        kept = patient[bounds[0] : bounds[-1]].astype(np.int32)
        self._patients = int(kept.max(initial=-1)) + 1
        shape = (len(bounds) - 1, self._patients)
        self._events = csr_array((np.ones(len(kept), np.uint16), kept, bounds - bounds[0]), shape=shape)

    def sums(self, weights: np.ndarray) -> np.ndarray:
        """(S, b) unsigned integers for patient weights (M, b) of whole numbers >= 0."""
        most = int(weights.max(initial=0)) * self._longest
        kind = np.uint16 if most < 2**16 else np.uint64
        events = self._events if kind == np.uint16 else self._events.astype(kind)
        sums = events @ weights[: self._patients].astype(kind, copy=False)
        return sums if self._first is None else np.add.reduceat(sums, self._first, axis=0, dtype=np.uint64)


class EventBlocks:
    """Events of a falling list in blocks of equal length; made once for all replicates.

    Args:
        patient: (F,) patient of each event.
    """

    def __init__(self, patient: np.ndarray) -> None:
        self.patient = patient
        self._parts: dict[int, SegmentSums] = {}

    def __len__(self) -> int:
        return len(self.patient)

    def part(self, number: int) -> SegmentSums:
        """Sums of the blocks ``number * _SEGMENT`` … of at most ``_SEGMENT`` blocks."""
        if number not in self._parts:
            first = number * _SEGMENT * _BLOCK
            last = min(first + _SEGMENT * _BLOCK, len(self.patient))
            bounds = np.append(np.arange(first, last, _BLOCK), last)
            self._parts[number] = SegmentSums(self.patient, bounds)
        return self._parts[number]


class WeightedSums:
    """Lazily extended block sums of ``weights[patient[i]]`` over events ``i``.

    Args:
        events: (F,) patient of each event, or blocks of them.
        weights: (M, b) unsigned integers.
    """

    def __init__(self, events: np.ndarray | EventBlocks, weights: np.ndarray) -> None:
        self._events = events if isinstance(events, EventBlocks) else EventBlocks(events)
        self.size, self.replicates = len(events), weights.shape[1]
        self._drawn = weights
        most = int(weights.max(initial=0))
        # One more patient of weight 0 fills the last block. Small types: memory limits the speed.
        kind = np.uint8 if most < 2**8 else weights.dtype
        self._weights = np.concatenate(
            [weights, np.zeros((1, self.replicates), weights.dtype)], dtype=kind, casting="unsafe"
        )
        self._patient = self._events.patient
        self._filler = len(weights)
        self._total = -(-self.size // _BLOCK)
        self._sums = np.zeros((self._total + 1, self.replicates), np.int64)
        self._done = 0
        # Sums of a block must fit the type they are added in.
        self._type = np.uint16 if most * _BLOCK < 2**16 else np.uint64

    def _extend(self, blocks: int) -> None:
        while self._done < min(blocks, self._total):
            stop = min(self._done + _SEGMENT, self._total)
            sums = self._events.part(self._done // _SEGMENT).sums(self._drawn)
            np.cumsum(sums, axis=0, out=self._sums[self._done + 1 : stop + 1])
            self._sums[self._done + 1 : stop + 1] += self._sums[self._done]
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
