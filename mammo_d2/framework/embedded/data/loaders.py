"""Data loaders: records -> mapper -> lists of model inputs, endless for training and once for inference."""

import itertools
import logging
import pickle
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from mammo_d2.framework.embedded.config import CfgNode, configurable
from mammo_d2.framework.embedded.data.catalog import DatasetCatalog, MetadataCatalog, Records
from mammo_d2.framework.embedded.data.samplers import InferenceSampler, TrainingSampler
from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.log import seed_all_rng

logger = logging.getLogger(__name__)

Mapper = Callable[[dict[str, Any]], Any]


class DatasetFromList(Dataset):
    """Records as one pickled block: worker processes share its memory, and each access gives an independent copy."""

    def __init__(self, records: Sequence[Any]):
        pickled = [np.frombuffer(pickle.dumps(record, protocol=-1), dtype=np.uint8) for record in records]
        self._ends = np.cumsum([len(item) for item in pickled])
        self._block = torch.from_numpy(np.concatenate(pickled))  # a tensor: passed to workers in shared memory

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> Any:
        begin = self._ends[index - 1] if index > 0 else 0
        return pickle.loads(self._block[begin : self._ends[index]].numpy().data)


class MapDataset(Dataset):
    """A data set behind a mapper. Where the mapper returns None, another record is drawn in its place."""

    def __init__(self, dataset: Dataset, mapper: Mapper):
        self._dataset = dataset
        self._mapper = mapper
        self._usable = set(range(len(dataset)))  # type: ignore[arg-type]
        self._random = random.Random(42)

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        tried = int(index)
        while True:
            item = self._mapper(self._dataset[tried])
            if item is not None:
                return item
            self._usable.discard(tried)
            if not self._usable:
                raise ValueError("the mapper returned None for every record of the data set")
            logger.warning("the mapper returned None for record %d; drawing another one", tried)
            tried = self._random.choice(sorted(self._usable))


class AspectRatioBatches:
    """Batches of images that are all wide (width > height) or all not, to save padding. Needs "width" and "height"."""

    def __init__(
        self, items: Iterable[dict[str, Any]], batch_size: int, collate_fn: Callable[[list[dict[str, Any]]], Any]
    ):
        self._items = items
        self._batch_size = batch_size
        self._collate_fn = collate_fn

    def __iter__(self) -> Iterator[Any]:
        waiting: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for item in self._items:
            batch = waiting[item["width"] > item["height"]]
            batch.append(item)
            if len(batch) == self._batch_size:
                yield self._collate_fn(batch[:])
                batch.clear()


def get_detection_dataset_dicts(names: str | Sequence[str], filter_empty: bool = True) -> Records:
    """Records of one or more registered data sets, in order.

    Args:
        names: data set name or names.
        filter_empty: drop images without an annotation that is not a crowd. It is applied only if the first record
            has the key "annotations".

    Raises:
        KeyError: a name is not registered.
        ValueError: a data set is empty, none is left after filtering, or class names differ between data sets.
    """
    names = [names] if isinstance(names, str) else list(names)
    if not names:
        raise ValueError("no data set named: DATASETS.TRAIN or DATASETS.TEST is empty")
    per_dataset = [DatasetCatalog.get(name) for name in names]
    for name, records in zip(names, per_dataset, strict=True):
        if len(records) == 0:
            raise ValueError(f"data set {name!r} is empty")
    records = list(itertools.chain.from_iterable(per_dataset))

    if "annotations" in records[0]:
        if filter_empty:
            total = len(records)
            records = [r for r in records if any(a.get("iscrowd", 0) == 0 for a in r["annotations"])]
            logger.info(
                "Removed %d images with no usable annotations. %d images left.", total - len(records), len(records)
            )
        _check_same_classes(names)
    if not records:
        raise ValueError(
            f"no image with annotations in {', '.join(names)}, and DATALOADER.FILTER_EMPTY_ANNOTATIONS is on"
        )
    return records


def _check_same_classes(names: Sequence[str]) -> None:
    """Raise ValueError if the data sets have different class names."""
    classes = {name: MetadataCatalog.get(name).get("thing_classes") for name in names}
    if classes[names[0]] is None:
        return
    for name in names:
        if classes[name] != classes[names[0]]:
            raise ValueError(
                f"data sets used together need the same classes: {names[0]!r} has {classes[names[0]]}, "
                f"{name!r} has {classes[name]}"
            )


def trivial_batch_collator(batch: list[Any]) -> list[Any]:
    """A batch is the list of its elements."""
    return batch


def worker_init_reset_seed(worker_id: int) -> None:
    """Seed all generators of a worker process from the one torch gave it."""
    seed_all_rng(torch.initial_seed() % 2**31 + worker_id)


def _identity(item: Any) -> Any:
    return item


def _needs_mapper(mapper: Mapper | None) -> Mapper:
    if mapper is None:
        raise ValueError(
            "the embedded engine has no default mapper: pass mapper=, e.g. the one of mammo_d2.data.loading.mapper"
        )
    return mapper


def _train_arguments(
    cfg: CfgNode, mapper: Mapper | None = None, *, dataset: Any = None, sampler: Sampler | None = None
) -> dict[str, Any]:
    if dataset is None:
        dataset = get_detection_dataset_dicts(cfg.DATASETS.TRAIN, cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS)
    if sampler is None and not isinstance(dataset, IterableDataset):
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            raise ValueError(
                f"DATALOADER.SAMPLER_TRAIN is {cfg.DATALOADER.SAMPLER_TRAIN!r}; the framework knows 'TrainingSampler' "
                f"only, pass sampler= for another"
            )
        sampler = TrainingSampler(len(dataset), seed=cfg.SEED)
    return {
        "dataset": dataset,
        "sampler": sampler,
        "mapper": _needs_mapper(mapper),
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_arguments)
def build_detection_train_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler | None = None,
    total_batch_size: int,
    aspect_ratio_grouping: bool = True,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
    drop_last: bool = True,
    seed: int | None = None,
    **kwargs: Any,
) -> Iterable[Any]:
    """Make the training loader. Called with a config, `mapper`, `dataset` and `sampler` are the arguments left.

    Args:
        dataset: list of records, or a torch data set.
        mapper: record -> model input; None leaves a torch data set's elements as they are.
        sampler: order of the indices; default `TrainingSampler`. None for an iterable data set.
        total_batch_size: images per step over all ranks.
        aspect_ratio_grouping: batch wide images with wide ones; changes the order the sampler gave.
        num_workers: loader processes. Batches and their order do not depend on it.
        collate_fn: list of elements -> batch; default the list itself.
        drop_last: drop an incomplete last batch of a finite sampler.
        seed: seed of the worker processes' seeds.
        kwargs: further arguments of torch's DataLoader.

    Raises:
        ValueError: the batch size is not a multiple of the number of ranks.
    """
    world_size = comm.get_world_size()
    if total_batch_size <= 0 or total_batch_size % world_size != 0:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {total_batch_size}; it must be a positive multiple of the {world_size} processes"
        )
    batch_size = total_batch_size // world_size
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset)
    iterable = isinstance(dataset, IterableDataset)
    if iterable and sampler is not None:
        raise ValueError("an iterable data set has its own order: sampler must be None")
    if mapper is not None and not iterable:
        dataset = MapDataset(dataset, mapper)
    if sampler is None and not iterable:
        sampler = TrainingSampler(len(dataset))

    common: dict[str, Any] = {
        "sampler": sampler,
        "num_workers": num_workers,
        "worker_init_fn": worker_init_reset_seed,
        "generator": None if seed is None else torch.Generator().manual_seed(seed),
        **kwargs,
    }
    collate = collate_fn or trivial_batch_collator
    if not aspect_ratio_grouping:
        return DataLoader(dataset, batch_size=batch_size, drop_last=drop_last, collate_fn=collate, **common)
    items = DataLoader(dataset, batch_size=None, collate_fn=_identity, **common)
    return AspectRatioBatches(items, batch_size, collate)


def _test_arguments(cfg: CfgNode, dataset_name: str | Sequence[str], mapper: Mapper | None = None) -> dict[str, Any]:
    return {
        "dataset": get_detection_dataset_dicts(dataset_name, filter_empty=False),
        "mapper": _needs_mapper(mapper),
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_test_arguments)
def build_detection_test_loader(
    dataset: Any,
    *,
    mapper: Mapper | None,
    sampler: Sampler | None = None,
    batch_size: int = 1,
    num_workers: int = 0,
    collate_fn: Callable[[list[Any]], Any] | None = None,
) -> DataLoader:
    """Make a loader that gives every record once over all ranks. Called with a config: (cfg, dataset_name, mapper).

    Args:
        dataset: list of records, or a torch data set.
        mapper: record -> model input; None leaves a torch data set's elements as they are.
        sampler: default `InferenceSampler`.
        batch_size: images per step of one rank.
        num_workers: loader processes.
        collate_fn: list of elements -> batch; default the list itself.
    """
    if isinstance(dataset, list):
        dataset = DatasetFromList(dataset)
    iterable = isinstance(dataset, IterableDataset)
    if mapper is not None and not iterable:
        dataset = MapDataset(dataset, mapper)
    if sampler is None and not iterable:
        sampler = InferenceSampler(len(dataset))
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=False,
        num_workers=num_workers,
        collate_fn=collate_fn or trivial_batch_collator,
    )
