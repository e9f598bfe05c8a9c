"""Records as torch data sets and loaders: packed for worker processes, mapped one by one, errors name the image."""

import pickle
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from mammo_d2.core.processes.parent_process import end_with_parent
from mammo_d2.core.processes.threads import use_one_thread
from mammo_d2.data.format.stored_records import StoredRecords
from mammo_d2.data.loading.samplers import StreamSampler

# Keeps the generators of the augmentation apart from those of the samplers' pools (0, 1, ...).
AUGMENTATION_STREAM = 1000


class PackedRecords(Sequence):
    """A read-only list of records in one array of bytes.

    Worker processes forked from this one share it: a list of dicts would be copied page by page as the reference
    counts change. Each access makes a new record, so that none can be modified.
    """

    def __init__(self, records: Sequence[dict]):
        packed = [pickle.dumps(record, protocol=pickle.HIGHEST_PROTOCOL) for record in records]
        self._ends = np.cumsum([len(item) for item in packed], dtype=np.int64)
        self._bytes = np.frombuffer(b"".join(packed), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        begin = self._ends[index - 1] if index else 0
        return pickle.loads(self._bytes[begin : self._ends[index]])


@dataclass(frozen=True)
class UnusableImage:
    """Sent by a worker instead of a sample if the image cannot be used."""

    error: Exception


class MappedImages(Dataset):
    """Map-style data set of mapped records; subclasses say what a key is."""

    def __init__(self, records: Sequence[dict], mapper: Callable):
        # Stored records are packed already.
        self._records = records if isinstance(records, StoredRecords) else PackedRecords(records)
        self._mapper = mapper

    def __len__(self) -> int:
        return len(self._records)

    def map_record(self, index: int, *arguments) -> dict | UnusableImage:
        """The sample, or the error that names the image; other errors are raised at once."""
        try:
            return self._mapper(self._records[index], *arguments)
        except (OSError, ValueError) as error:
            return UnusableImage(error)


class TrainingImages(MappedImages):
    """Keys are (position in the global stream, record index)."""

    def __init__(self, records: Sequence[dict], mapper: Callable, seed: int):
        super().__init__(records, mapper)
        self._seed = seed

    def __getitem__(self, key: tuple[int, int]) -> dict | UnusableImage:
        position, index = key
        return self.map_record(index, np.random.default_rng([self._seed, AUGMENTATION_STREAM, position]))


class TestImages(MappedImages):
    """Keys are record indices."""

    __test__ = False  # not a pytest class

    def __getitem__(self, index: int) -> dict | UnusableImage:
        return self.map_record(index)


class StreamKeys(Sampler):
    """The keys of ``TrainingImages`` for a sampler."""

    def __init__(self, sampler: StreamSampler):
        self._sampler = sampler

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((position, self._sampler.index_at(position)) for position in self._sampler.positions())


class SampleLoader(DataLoader):
    """DataLoader whose batches are lists of model inputs, made by ``MappedImages``.

    An image that cannot be used raises the same error as without worker processes; torch itself would replace its
    message by the worker's traceback.
    """

    def __iter__(self) -> Iterator[list[dict]]:  # type: ignore[override]
        for batch in super().__iter__():
            for sample in batch:
                if isinstance(sample, UnusableImage):
                    raise sample.error
            yield batch


class TrainLoader(SampleLoader):
    """Endless loader of one rank's training batches: lists of model inputs.

    Attributes:
        seed: seed of order and augmentation; a run with SEED -1 must save it to be resumed.
    """

    seed: int


def worker_options(num_workers: int) -> dict:
    """DataLoader arguments common to training, testing and prediction: batches are lists, workers use one thread."""
    return {
        "num_workers": num_workers,
        "worker_init_fn": start_worker,
        "collate_fn": _as_list,
        # Its own generator: making an iterator must not advance the global one, which a resumed run has restored.
        "generator": torch.Generator(),
    }


def start_worker(worker_id: int = 0) -> None:
    """One thread for a worker process, which ends with its parent; Ctrl-C is for the main process."""
    # torch's own watch lets a worker of a killed run wait for ever where it has samples that nobody takes.
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_one_thread()


def _as_list(samples: list[dict]) -> list[dict]:
    """A batch is the list of its samples."""
    return samples
