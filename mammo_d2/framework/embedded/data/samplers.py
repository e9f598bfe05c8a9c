"""Samplers over the ranks: endless and shuffled for training, every index once for inference."""

import itertools
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from mammo_d2.framework.embedded.utils import comm


class TrainingSampler(Sampler[int]):
    """Endless stream of shuffled passes over the data, of which rank r of R takes elements r, r + R, r + 2R, ..."""

    def __init__(self, size: int, shuffle: bool = True, seed: int | None = None):
        """
        Args:
            size: number of records.
            shuffle: a new permutation for every pass; otherwise 0, 1, ..., size - 1 again and again.
            seed: seed of the permutations, the same on every rank. None: drawn by rank 0, then all ranks must make
                their samplers together.

        Raises:
            TypeError, ValueError: `size` is not a positive int.
        """
        if not isinstance(size, int):
            raise TypeError(f"size must be an int, not {type(size)}")
        if size <= 0:
            raise ValueError(f"size is {size}: there must be at least one record to sample from")
        self._size = size
        self._shuffle = shuffle
        self._seed = comm.shared_random_seed() if seed is None else int(seed)
        self._rank = comm.get_rank()
        self._world_size = comm.get_world_size()

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(self._stream(), self._rank, None, self._world_size)

    def _stream(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self._seed)
        while True:
            if self._shuffle:
                yield from torch.randperm(self._size, generator=generator).tolist()
            else:
                yield from range(self._size)


class InferenceSampler(Sampler[int]):
    """Every index once over all ranks, each rank one contiguous part; the first ranks get one more if it is uneven."""

    def __init__(self, size: int):
        """
        Args:
            size: number of records, at least 1. With fewer records than ranks the last ranks get none.
        """
        if size <= 0:
            raise ValueError(f"size is {size}: there must be at least one record to evaluate")
        each, rest = divmod(size, comm.get_world_size())
        rank = comm.get_rank()
        begin = rank * each + min(rank, rest)
        self._indices = range(begin, begin + each + (rank < rest))

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)
