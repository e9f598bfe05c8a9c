"""The sampler of inference: every index once over the ranks."""

from collections.abc import Iterator

from torch.utils.data import Sampler

from mammo_d2.framework.embedded.utils import comm


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
