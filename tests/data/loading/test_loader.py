"""Loaders: the same data for any number of workers and ranks and after a resume; every test image once."""

import json
import multiprocessing
from itertools import chain, islice

import pytest
import torch
import torch.distributed as dist

from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.data.format.stored_records import StoredRecords
from mammo_d2.data.loading.loader import (
    build_test_loader,
    build_train_loader,
    images_per_rank,
)
from mammo_d2.framework import DatasetCatalog, MetadataCatalog, comm
from tests.data.toy_dataset import toy_config, write_dataset


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """Config of a registered data set of 3 positives and 4 negatives, with augmentation."""
    monkeypatch.delenv("MAMMO_D2_DATASETS", raising=False)
    before = set(DatasetCatalog.list())
    write_dataset(tmp_path, positives=3, negatives=4)
    cfg = toy_config(tmp_path)
    cfg.SOLVER.IMS_PER_BATCH = 4
    cfg.INPUT.AUG.FLIP_HORIZONTAL, cfg.INPUT.AUG.SHIFT, cfg.INPUT.AUG.ROTATION = 0.5, 0.1, 20.0
    cfg.INPUT.AUG.BRIGHTNESS = 0.2
    register_datasets(cfg)
    yield cfg
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def batches(cfg, count, **arguments):
    return list(islice(iter(build_train_loader(cfg, **arguments)), count))


def as_rank(monkeypatch, rank, world_size):
    monkeypatch.setattr(comm, "get_rank", lambda: rank)
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)


def same(first, second):
    assert [len(batch) for batch in first] == [len(batch) for batch in second]
    for one, other in zip(chain(*first), chain(*second), strict=True):
        assert one["image_id"] == other["image_id"]
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)
        assert torch.equal(one["instances"].gt_classes, other["instances"].gt_classes)


def test_batches_are_lists_of_pairs(cfg):
    for batch in batches(cfg, 5):
        assert isinstance(batch, list)
        assert [len(sample["instances"]) for sample in batch] == [1, 0, 1, 0]
        assert all(sample["image"].shape == (1, 24, 20) for sample in batch)


def test_augmentation_differs_between_visits_of_an_image(cfg):
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    samples = [sample for batch in batches(cfg, 7) for sample in batch if sample["image_id"] == 1]
    assert len(samples) == 4
    assert not torch.equal(samples[0]["image"], samples[1]["image"])


def test_the_number_of_workers_changes_nothing(cfg):
    expected = batches(cfg, 6)
    for workers in (1, 3):
        cfg.DATALOADER.NUM_WORKERS = workers
        same(batches(cfg, 6), expected)


def test_a_resumed_loader_goes_on_with_the_next_batch(cfg):
    expected = batches(cfg, 8)
    for start in (1, 5):
        same(batches(cfg, 8 - start, start_iter=start), expected[start:])
    cfg.DATALOADER.NUM_WORKERS = 2
    same(batches(cfg, 3, start_iter=5), expected[5:])


def test_the_cache_changes_nothing(cfg):
    expected = batches(cfg, 6)
    cfg.DATALOADER.CACHE_MB = 1
    same(batches(cfg, 6), expected)


def test_the_global_random_state_is_left_alone(cfg):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    batches(cfg, 2)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_batches_of_the_ranks_make_up_the_one_process_batch(cfg, monkeypatch):
    expected = batches(cfg, 4)
    shares = []
    for rank in (0, 1):
        as_rank(monkeypatch, rank, 2)
        shares.append(batches(cfg, 4))
    assert all([len(s["instances"]) for s in batch] == [1, 0] for share in shares for batch in share)
    same([first + second for first, second in zip(*shares, strict=True)], expected)


def test_seed_decides_and_minus_one_is_fresh(cfg):
    expected = batches(cfg, 4)
    cfg.SEED = 6
    different = batches(cfg, 4)
    assert any(not torch.equal(a["image"], b["image"]) for a, b in zip(expected[0], different[0], strict=True))
    cfg.SEED = -1
    first, second = build_train_loader(cfg), build_train_loader(cfg)
    assert first.seed >= 0
    assert first.seed != second.seed
    drawn = list(islice(iter(first), 4))
    cfg.SEED = first.seed
    same(batches(cfg, 4), drawn)


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 8])
def test_every_test_image_once(cfg, monkeypatch, world_size):
    ids = []
    for rank in range(world_size):
        as_rank(monkeypatch, rank, world_size)
        loader = build_test_loader(cfg, "toy_train")
        got = list(loader)
        assert len(loader) == len(got)
        ids += [sample["image_id"] for batch in got for sample in batch]
    assert ids == [1, 2, 3, 4, 5, 6, 7]


def test_test_images_are_not_augmented_and_without_truth(cfg):
    cfg.DATALOADER.NUM_WORKERS = 2
    first, second = list(build_test_loader(cfg, "toy_train")), list(build_test_loader(cfg, "toy_train"))
    for (one,), (other,) in zip(first, second, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert "instances" not in one
        assert (one["height"], one["width"]) == (48, 40)
    truth = [len(batch[0]["instances"]) for batch in build_test_loader(cfg, "toy_train", with_instances=True)]
    assert truth == [1, 1, 1, 0, 0, 0, 0]


def test_own_mapper(cfg):
    loader = build_train_loader(cfg, mapper=lambda record, rng: (record["image_id"], rng.random()))
    first, again = (next(iter(loader)) for _ in range(2))
    assert first == again
    assert len({number for _, number in first}) == 4


@pytest.mark.parametrize(
    ("images", "world_size", "unit", "expected"), [(4, 2, 2, 2), (8, 2, 2, 4), (6, 1, 2, 6), (3, 3, 1, 1)]
)
def test_images_per_rank(images, world_size, unit, expected):
    assert images_per_rank(images, world_size, unit) == expected


@pytest.mark.parametrize(
    ("images", "world_size", "unit", "message"),
    [
        (3, 1, 2, "IMS_PER_BATCH is 3; it must be a multiple of 2 to share whole pairs .* among 1 process, .*4"),
        (2, 2, 2, "IMS_PER_BATCH is 2; it must be a multiple of 4 .* among 2 processes, for example 4"),
        (5, 2, 1, "IMS_PER_BATCH is 5; it must be a multiple of 2 to share whole images"),
        (0, 1, 1, "IMS_PER_BATCH is 0; .* for example 1"),
    ],
)
def test_batches_that_cannot_be_shared(images, world_size, unit, message):
    with pytest.raises(ValueError, match=message):
        images_per_rank(images, world_size, unit)


def test_bad_settings_are_named(cfg, tmp_path):
    cfg.DATALOADER.SAMPLER_TRAIN = "PairsSampler"
    with pytest.raises(ValueError, match=r"'PairsSampler' is unknown; choose one of .*ExamSampler, LocatedS"):
        build_train_loader(cfg)
    cfg.DATALOADER.SAMPLER_TRAIN = "PairSampler"
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = True
    with pytest.raises(ValueError, match="toy_train has no negative image"):
        build_train_loader(cfg)
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    assert len(batches(cfg, 1)[0]) == 4
    cfg.DATASETS.CATEGORIES = ["benign"]
    register_datasets(cfg)
    with pytest.raises(ValueError, match="toy_train: no image has a box of benign"):
        build_train_loader(cfg)
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match=r"set DATASETS\.TRAIN"):
        build_train_loader(cfg)
    cfg.DATASETS.TRAIN = ("toy_trian",)
    with pytest.raises(ValueError, match=r"unknown data set 'toy_trian'; known are .*toy_train"):
        build_train_loader(cfg)


@pytest.mark.parametrize("number", [1, 80])
def test_another_number_of_classes_than_the_model_has(cfg, number):
    """Too few train boxes as background; detectron2's 80 train a classifier of 78 classes that there are not."""
    cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = number
    register_datasets(cfg)
    message = rf"NUM_CLASSES is {number}, but the data have 2 classes \(benign, malignant\): set it to 2; load_config"
    with pytest.raises(ValueError, match=message):
        build_train_loader(cfg)


def test_labels_without_a_negative_are_warned_about(cfg, tmp_path, caplog):
    path = tmp_path / "toy" / "annotations" / "train.json"
    content = json.loads(path.read_text())
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    for values, warned in (((1, 1, None), True), ((1, 0, None), False), ((None,), False)):
        for index, image in enumerate(content["images"]):
            image["labels"] = {"malignant": values[index % len(values)]}
        path.write_text(json.dumps(content))
        caplog.clear()
        with caplog.at_level("INFO", logger="mammo_d2.data.loading.loader"):
            build_train_loader(cfg)
        assert ("no image has labels.malignant = 0" in caplog.text) == warned
    assert "labels: malignant 0 yes, 0 no, 7 unknown" in caplog.text


def test_images_left_out_as_unknown_are_told(cfg, tmp_path, caplog):
    """3 images with boxes; without: one labelled, one known to be negative, two unknown."""
    path = tmp_path / "toy" / "annotations" / "train.json"
    content = json.loads(path.read_text())
    annotated = {annotation["image_id"] for annotation in content["annotations"]}
    without = [image for image in content["images"] if image["id"] not in annotated]
    for image, value in zip(without, (1, 0, None, None), strict=True):
        image["labels"] = {"malignant": value}
    path.write_text(json.dumps(content))
    drawn = {}
    for sampler in ("PairSampler", "TrainingSampler"):
        cfg.DATALOADER.SAMPLER_TRAIN = sampler
        caplog.clear()
        with caplog.at_level("INFO", logger="mammo_d2.data.loading"):
            drawn[sampler] = {sample["image_id"] for batch in batches(cfg, 6) for sample in batch}
        assert "7 images, 3 positive, 1 negative, 1 with a finding but no box, 2 unknown" in caplog.text
        # Samplers of all images learn from its label.
        assert ("1 images are labelled with a finding but have no box" in caplog.text) == (sampler == "PairSampler")
        left_out = "2 images are left out as unknown: they have no box, and their label for malignant is not 0"
        assert (left_out in caplog.text) == (sampler == "PairSampler")
    assert drawn["PairSampler"] == annotated | {without[1]["id"]}
    assert drawn["TrainingSampler"] == {image["id"] for image in content["images"]}


def test_data_set_of_other_code(cfg):
    """Records with detectron2's own keys are enough; the classes must be named."""
    own = [{key: record[key] for key in ("file_name", "image_id", "height", "width", "annotations")}
           for record in load_records(cfg, "toy_train")]  # fmt: skip
    DatasetCatalog.register("own", lambda: own)
    cfg.DATASETS.TRAIN = ("own",)
    with pytest.raises(ValueError, match=r"own does not name its classes; set MetadataCatalog\.get\('own'\)"):
        build_train_loader(cfg)
    MetadataCatalog.get("own").thing_classes = ["malignant"]
    assert len(batches(cfg, 1)[0]) == cfg.SOLVER.IMS_PER_BATCH


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_vanishes_is_named(cfg, tmp_path, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    loader = build_train_loader(cfg)
    for path in (tmp_path / "toy" / "images").glob("*.png"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"^image \d, .*train_\d\.png") as error:
        next(iter(loader))
    assert "\n" not in str(error.value)  # no traceback of the worker in it


def _broken_mapper(record, rng):
    return record["no such key"]


def test_a_mistake_of_the_program_is_not_taken_for_a_bad_image(cfg):
    with pytest.raises(KeyError, match="no such key"):
        next(iter(build_train_loader(cfg, mapper=_broken_mapper)))


def _one_rank(rank, folder, cfg):
    """What one of two gloo processes draws; as files, because assertions in a child would be lost."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    loader = build_train_loader(cfg)
    result = {
        "seed": loader.seed,
        "train": [[sample["image_id"] for sample in batch] for batch in islice(iter(loader), 5)],
        "test": [batch[0]["image_id"] for batch in build_test_loader(cfg, "toy_train")],
    }
    (folder / f"{rank}.json").write_text(json.dumps(result))
    dist.destroy_process_group()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this platform")
def test_two_real_processes(cfg, tmp_path):
    cfg.SEED = -1
    context = multiprocessing.get_context("fork")
    ranks = [context.Process(target=_one_rank, args=(rank, tmp_path, cfg)) for rank in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(timeout=60)
        if process.is_alive():
            process.kill()
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["test"] + second["test"] == [1, 2, 3, 4, 5, 6, 7]
    assert first["seed"] == second["seed"]
    cfg.SEED = first["seed"]
    alone = [[sample["image_id"] for sample in batch] for batch in batches(cfg, 5)]
    assert [one + other for one, other in zip(first["train"], second["train"], strict=True)] == alone


class TestLabelOnlyPositives:
    """Of 3 positive patients 1 keeps its box (DATASETS.BOXES_FOR)."""

    @pytest.fixture
    def few_boxes(self, cfg):
        cfg.DATASETS.BOXES_FOR = 0.34
        return cfg

    def test_left_out_as_before(self, few_boxes, caplog):
        caplog.set_level("INFO", logger="mammo_d2")
        samples = [sample for batch in batches(few_boxes, 6) for sample in batch]
        assert len({sample["image_id"] for sample in samples[0::2]}) == 1
        assert not any("image_labels" in sample for sample in samples)
        assert "1 of 3 positive patients keep their boxes (DATASETS.BOXES_FOR 0.34, BOXES_SEED 0): p" in caplog.text
        assert "2 images are labelled with a finding but have no box" in caplog.text

    def test_used_as_positive_images_with_their_labels(self, few_boxes, caplog):
        few_boxes.DATALOADER.LABEL_ONLY_POSITIVES = "use"
        samples = [sample for batch in batches(few_boxes, 6) for sample in batch]
        positives, negatives = samples[0::2], samples[1::2]
        assert [len(sample["instances"]) for sample in positives] == [1, 0] * 6
        assert {sample["image_id"] for sample in positives} == {1, 2, 3}
        assert all(sample["image_labels"] == {"malignant": 1} for sample in positives[1::2])
        assert not any("image_labels" in sample for sample in (*positives[0::2], *negatives))
        assert {sample["image_id"] for sample in negatives} == {4, 5, 6, 7}
        assert "have no box for it" not in caplog.text

    def test_a_sampler_that_would_not_draw_them(self, few_boxes):
        few_boxes.DATALOADER.LABEL_ONLY_POSITIVES = "use"
        few_boxes.DATALOADER.SAMPLER_TRAIN = "LocatedSampler"
        with pytest.raises(ValueError, match=r"SAMPLER_TRAIN LocatedSampler draws no positive .* PairSampler"):
            build_train_loader(few_boxes)

    def test_the_test_set_keeps_its_boxes(self, few_boxes):
        loader = build_test_loader(few_boxes, "toy_train", with_instances=True)
        assert [len(batch[0]["instances"]) for batch in loader] == [1, 1, 1, 0, 0, 0, 0]

    def test_unknown_images_and_ignored_crowds_are_not_drawn(self, few_boxes, tmp_path):
        """Image 1 has an ignored crowd box only, image 4 an unknown label, image 5 a label without a box."""
        path = tmp_path / "toy/annotations/train.json"
        coco = json.loads(path.read_text())
        coco["images"][3]["labels"] = {"malignant": None}
        coco["images"][4]["labels"] = {"malignant": 1}
        coco["annotations"][0].update(iscrowd=1, ignore=1)
        path.write_text(json.dumps(coco))
        few_boxes.DATALOADER.LABEL_ONLY_POSITIVES = "use"
        samples = [sample for batch in batches(few_boxes, 8) for sample in batch]
        assert {sample["image_id"] for sample in samples[0::2]} == {2, 3, 5}
        assert {sample["image_id"] for sample in samples[1::2]} == {6, 7}


@pytest.mark.parametrize("sampler", ["PairSampler", "TrainingSampler", "ExamSampler", "LocatedSampler"])
def test_the_record_store_changes_nothing(cfg, sampler):
    cfg.DATALOADER.SAMPLER_TRAIN = sampler
    cfg.DATASETS.LABEL_LEVEL = "breast"
    expected, images = batches(cfg, 6), list(build_test_loader(cfg, "toy_train"))
    cfg.DATASETS.RECORD_STORE = "always"
    register_datasets(cfg)
    assert isinstance(load_records(cfg, "toy_train"), StoredRecords)
    same(batches(cfg, 6), expected)
    stored = list(build_test_loader(cfg, "toy_train"))
    assert [[sorted(sample) for sample in batch] for batch in stored] == [[sorted(s) for s in b] for b in images]
    assert all(
        torch.equal(a["image"], b["image"])
        for x, y in zip(stored, images, strict=True)
        for a, b in zip(x, y, strict=True)
    )
    cfg.DATALOADER.NUM_WORKERS = 1
    same(batches(cfg, 6), expected)


def test_an_unknown_choice_of_record_store(cfg):
    cfg.DATASETS.RECORD_STORE = "yes"
    with pytest.raises(ValueError, match=r"DATASETS\.RECORD_STORE is 'yes'"):
        register_datasets(cfg)
