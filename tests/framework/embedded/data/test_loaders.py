"""Samplers and loaders; their order under a seed is in test_job_parity.py."""

import itertools
from typing import Any

import pytest
import torch
from torch.utils.data import Dataset, IterableDataset

from mammo_d2.framework.embedded import config
from mammo_d2.framework.embedded.data import loaders
from mammo_d2.framework.embedded.data.catalog import DatasetCatalog, MetadataCatalog
from mammo_d2.framework.embedded.data.samplers import InferenceSampler, TrainingSampler
from mammo_d2.framework.embedded.utils import comm


@pytest.fixture
def ranks(monkeypatch: pytest.MonkeyPatch):
    """Pretend to be rank r of R."""

    def _be(rank: int, size: int) -> None:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: size)

    return _be


def test_ranks_interleave_one_stream(ranks: Any) -> None:
    def first(count: int) -> list[int]:
        return list(itertools.islice(TrainingSampler(5, seed=3), count))

    ranks(0, 1)
    whole = first(20)
    assert sorted(whole[:5]) == [0, 1, 2, 3, 4]
    for rank in range(3):
        ranks(rank, 3)
        assert first(6) == whole[rank:18:3]


@pytest.mark.parametrize(("size", "parts"), [(7, [[0, 1, 2], [3, 4], [5, 6]]), (2, [[0], [1], []])])
def test_inference_gives_every_index_once(ranks: Any, size: int, parts: list[list[int]]) -> None:
    found = []
    for rank in range(3):
        ranks(rank, 3)
        sampler = InferenceSampler(size)
        found.append(list(sampler))
        assert len(sampler) == len(found[-1])
    assert found == parts


@pytest.mark.parametrize("sampler", [TrainingSampler, InferenceSampler])
def test_empty_data_is_refused(sampler: type) -> None:
    with pytest.raises(ValueError, match="size is 0: there must be at least one record"):
        sampler(0)


def test_records_are_independent_copies() -> None:
    records = [{"image_id": i, "annotations": [{"bbox": [0, 0, i, i]}]} for i in range(3)]
    dataset = loaders.DatasetFromList(records)
    dataset[1]["annotations"].clear()
    assert [dataset[i] for i in range(3)] == records
    assert len(dataset) == 3


def test_mapper_may_reject_records() -> None:
    dataset = loaders.MapDataset([0, 1, 2, 3], lambda x: None if x % 2 else x * 10)
    assert dataset[2] == 20
    assert dataset[1] in (0, 20)
    with pytest.raises(ValueError, match="returned None for every record"):
        _ = loaders.MapDataset([0, 1], lambda x: None)[0]


class Squares(Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        return index**2


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(5))


def test_test_loader_passes_once() -> None:
    loader = loaders.build_detection_test_loader([1, 2, 3], mapper=lambda x: -x, batch_size=2)
    assert list(loader) == [[-1, -2], [-3]]
    assert len(loader) == 2
    assert list(loaders.build_detection_test_loader(Squares(), mapper=None)) == [[0], [1], [4], [9]]


def test_train_loader_of_other_data_sets() -> None:
    loader = loaders.build_detection_train_loader(
        Stream(), mapper=None, total_batch_size=2, aspect_ratio_grouping=False
    )
    assert list(loader) == [[0, 1], [2, 3]]  # the incomplete batch is dropped
    endless = loaders.build_detection_train_loader(
        Squares(), mapper=lambda x: x + 1, total_batch_size=4, aspect_ratio_grouping=False
    )
    assert sorted(next(iter(endless))) == [1, 2, 5, 10]
    with pytest.raises(ValueError, match="sampler must be None"):
        loaders.build_detection_train_loader(
            Stream(), mapper=None, total_batch_size=2, sampler=TrainingSampler(2, seed=0)
        )


def test_batches_do_not_depend_on_the_number_of_workers() -> None:
    def batches(num_workers: int) -> list[list[int]]:
        loader = loaders.build_detection_train_loader(
            list(range(9)), mapper=None, sampler=TrainingSampler(9, seed=1), total_batch_size=2,
            aspect_ratio_grouping=False, num_workers=num_workers,
        )  # fmt: skip
        return list(itertools.islice(loader, 7))

    assert batches(2) == batches(0)


def test_batches_of_one_shape_are_collated_and_the_loader_can_be_used_again() -> None:
    records = [{"width": 2 if i % 2 else 1, "height": 1, "id": i} for i in range(6)]
    loader = loaders.build_detection_train_loader(
        records, mapper=None, sampler=TrainingSampler(6, shuffle=False, seed=0), total_batch_size=2,
        aspect_ratio_grouping=True, collate_fn=lambda batch: tuple(record["id"] for record in batch),
    )  # fmt: skip
    for _ in range(2):
        assert list(itertools.islice(loader, 3)) == [(0, 2), (1, 3), (4, 0)]


def test_batch_size_is_shared_by_the_ranks(ranks: Any) -> None:
    ranks(0, 2)
    arguments = {"mapper": None, "aspect_ratio_grouping": False, "sampler": TrainingSampler(5, seed=0)}
    assert len(next(iter(loaders.build_detection_train_loader([1] * 5, total_batch_size=4, **arguments)))) == 2
    with pytest.raises(ValueError, match="IMS_PER_BATCH is 3; it must be a positive multiple of the 2 processes"):
        loaders.build_detection_train_loader([1] * 5, total_batch_size=3, **arguments)


@pytest.fixture
def data_sets():
    """Register data sets for a test: name -> (records, class names)."""
    added = []

    def _register(name: str, records: list, classes: list[str]) -> None:
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).thing_classes = classes
        added.append(name)

    yield _register
    for name in added:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def record(image_id: int, *crowd: int) -> dict[str, Any]:
    return {"image_id": image_id, "annotations": [{"iscrowd": c} for c in crowd]}


def test_loaders_from_a_config(data_sets: Any) -> None:
    data_sets("t_train", [record(1), record(2, 0), record(3, 1), record(4, 1, 0)], ["a"])
    cfg = config.get_cfg()
    cfg.DATASETS.TRAIN = ("t_train",)
    cfg.DATALOADER.NUM_WORKERS = 0
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.SOLVER.IMS_PER_BATCH = 2
    loader = loaders.build_detection_train_loader(cfg, mapper=lambda r: r["image_id"])
    assert sorted(next(iter(loader))) == [2, 4]
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.SOLVER.IMS_PER_BATCH = 4
    loader = loaders.build_detection_train_loader(cfg, mapper=lambda r: r["image_id"])
    assert sorted(next(iter(loader))) == [1, 2, 3, 4]
    test_loader = loaders.build_detection_test_loader(cfg, "t_train", mapper=lambda r: r["image_id"])
    assert list(test_loader) == [[1], [2], [3], [4]]
    with pytest.raises(ValueError, match="no default mapper"):
        loaders.build_detection_test_loader(cfg, "t_train")
    cfg.DATALOADER.SAMPLER_TRAIN = "PairSampler"
    with pytest.raises(ValueError, match="SAMPLER_TRAIN is 'PairSampler'"):
        loaders.build_detection_train_loader(cfg, mapper=lambda r: r)


def test_wrong_data_sets_are_named(data_sets: Any) -> None:
    data_sets("t_none", [], ["a"])
    data_sets("t_negative", [record(1)], ["a"])
    data_sets("t_other", [record(2, 0)], ["b"])
    get = loaders.get_detection_dataset_dicts
    with pytest.raises(KeyError, match="'t_typo' is not registered"):
        get("t_typo")
    with pytest.raises(ValueError, match="no data set named"):
        get([])
    with pytest.raises(ValueError, match="'t_none' is empty"):
        get("t_none")
    with pytest.raises(ValueError, match="no image with annotations in t_negative"):
        get("t_negative")
    with pytest.raises(ValueError, match=r"'t_negative' has \['a'\], 't_other' has \['b'\]"):
        get(["t_negative", "t_other"])


def test_worker_seeds_differ() -> None:
    drawn = []
    for worker in (0, 1):
        torch.manual_seed(5)
        loaders.worker_init_reset_seed(worker)
        drawn.append(torch.rand(1).item())
    assert drawn[0] != drawn[1]
