"""Precomputed proposals: from a results file to the regions of a model input."""

import json

import numpy as np
import pytest
import torch

from mammo_d2.data.format.catalog import load_records, register_datasets
from mammo_d2.data.loading.augmentation import Augmentation
from mammo_d2.data.loading.loader import build_test_loader, build_train_loader
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.data.loading.proposals import read_proposals, with_proposals
from mammo_d2.framework import BoxMode, DatasetCatalog, MetadataCatalog
from tests.data.toy_dataset import toy_config, write_dataset

# Of image 1 two boxes of two categories, of image 3 one; image 2 has none.
ENTRIES = [
    {"image_id": 1, "category_id": 1, "bbox": [10.0, 12.0, 8.0, 6.0], "score": 0.25},
    {"image_id": 1, "category_id": 2, "bbox": [0.0, 0.0, 4.0, 4.0], "score": 0.75},
    {"image_id": 3, "category_id": 1, "bbox": [20.0, 24.0, 20.0, 24.0], "score": 0.5},
]


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(ENTRIES))
    return path


@pytest.fixture
def cfg(tmp_path, monkeypatch, results):
    """A registered data set of three images of 48×40 pixels, input 24×20, with proposals."""
    monkeypatch.delenv("MAMMO_D2_DATASETS", raising=False)
    before = set(DatasetCatalog.list())
    write_dataset(tmp_path, positives=1, negatives=2)
    cfg = toy_config(tmp_path)
    cfg.DATALOADER.SAMPLER_TRAIN = "TrainingSampler"
    cfg.SOLVER.IMS_PER_BATCH = 3
    cfg.DATASETS.PROPOSALS = [["toy_train", str(results)]]
    register_datasets(cfg)
    yield cfg
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


class TestRead:
    def test_corners_and_order(self, results):
        found = read_proposals(results)
        assert set(found) == {1, 3}
        boxes, scores = found[1]
        assert boxes.tolist() == [[0, 0, 4, 4], [10, 12, 18, 18]]
        assert scores.tolist() == [0.75, 0.25]

    def test_annotations_with_scores(self, tmp_path, results):
        path = tmp_path / "coco.json"
        path.write_text(json.dumps({"images": [], "annotations": ENTRIES}))
        assert read_proposals(path)[3][0].tolist() == read_proposals(results)[3][0].tolist()

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            ([{"image_id": 1, "bbox": [0, 0, 1, 1]}], "entry 0 needs image_id, bbox and score"),
            ([{"image_id": 1, "bbox": [0, 0, 0, 1], "score": 1}], "entry 0: bbox"),
            ([{"image_id": 1, "bbox": [0, 0, 1], "score": 1}], "entry 0: bbox"),
            ({"images": []}, "a COCO results file"),
        ],
    )
    def test_bad_files(self, tmp_path, content, message):
        path = tmp_path / "bad.json"
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            read_proposals(path)

    def test_no_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"DATASETS\.PROPOSALS"):
            read_proposals(tmp_path / "none.json")


class TestRecords:
    def test_boxes_of_each_image(self, cfg):
        records = with_proposals(cfg, load_records(cfg, "toy_train"), limit=1)
        assert [record["proposal_boxes"].tolist() for record in records] == [[[0, 0, 4, 4]], [], [[20, 24, 40, 48]]]
        assert records[2]["proposal_objectness_logits"].tolist() == [0.5]

    def test_another_data_set_of_the_same_images(self, cfg, tmp_path):
        """As in cross-validation: images numbered anew are known by their files."""
        coco = json.loads((tmp_path / "toy" / "annotations" / "train.json").read_text())
        coco["images"] = [{**image, "id": 4 - image["id"]} for image in coco["images"]]
        coco["annotations"] = []
        (tmp_path / "fold.json").write_text(json.dumps(coco))
        cfg.DATASETS.REGISTER = [["fold", str(tmp_path / "fold.json"), str(tmp_path / "toy" / "images")]]
        register_datasets(cfg)
        records = with_proposals(cfg, load_records(cfg, "fold"), limit=9)
        assert [len(record["proposal_boxes"]) for record in records] == [1, 0, 2]

    def test_without_the_key_nothing_changes(self, cfg):
        cfg.DATASETS.PROPOSALS = []
        records = load_records(cfg, "toy_train")
        assert with_proposals(cfg, records, 9) == records

    def test_what_does_not_fit_is_named(self, cfg, tmp_path, results):
        records = load_records(cfg, "toy_train")
        for pairs, message in [
            (["x"], "'x' is not a"),
            ([["nowhere", str(results)]], "'nowhere'.*unknown"),
        ]:
            cfg.DATASETS.PROPOSALS = pairs
            with pytest.raises(ValueError, match=message):
                with_proposals(cfg, records, 9)
        write_dataset(tmp_path, positives=1, negatives=0, name="other")
        register_datasets(cfg)
        cfg.DATASETS.PROPOSALS = [["other_train", str(results)]]
        with pytest.raises(ValueError, match="image_id 3 is not in other_train"):
            with_proposals(cfg, records, 9)
        results.write_text(json.dumps(ENTRIES[:1]))
        with pytest.raises(ValueError, match=r"image 1, .*train_0\.png: .* boxes for other_train only"):
            with_proposals(cfg, records, 9)


class TestInput:
    def test_loaders_give_them_on_the_network_input(self, cfg):
        batch = next(iter(build_train_loader(cfg)))
        tested = [sample for (sample,) in build_test_loader(cfg, "toy_train")]
        for sample in [*batch, *tested]:
            boxes = sample["proposals"].proposal_boxes.tensor.tolist()
            expected = {1: [[0, 0, 2, 2], [5, 6, 9, 9]], 2: [], 3: [[10, 12, 20, 24]]}
            assert boxes == expected[sample["image_id"]]
            assert sample["proposals"].image_size == (24, 20)
            assert "proposal_boxes" not in sample
        assert tested[0]["proposals"].objectness_logits.tolist() == [0.75, 0.25]

    def test_they_follow_the_augmentation_as_the_lesions_do(self, cfg):
        """The lesion itself as its proposal stays on it under every flip, shift and turn."""
        (record, *_) = load_records(cfg, "toy_train")
        lesion = BoxMode.convert(record["annotations"][0]["bbox"], BoxMode.XYWH_ABS, BoxMode.XYXY_ABS)
        extra = {"proposal_boxes": np.array([lesion], np.float32), "proposal_bbox_mode": BoxMode.XYXY_ABS}
        record = {**record, **extra, "proposal_objectness_logits": np.zeros(1, np.float32)}
        augmentation = Augmentation(flip_horizontal=0.5, flip_vertical=0.5, shift=0.2, rotation=45, min_visible=0.0)
        mapper = MammoMapper(size=(24, 20), augmentation=augmentation, with_instances=True)
        places = set()
        for seed in range(12):
            sample = mapper(record, np.random.default_rng(seed))
            torch.testing.assert_close(sample["proposals"].proposal_boxes.tensor, sample["instances"].gt_boxes.tensor)
            places.add(tuple(sample["instances"].gt_boxes.tensor[0].round().tolist()))
        assert len(places) > 8

    def test_what_lies_outside_is_dropped_with_its_score(self, cfg):
        (record, *_) = load_records(cfg, "toy_train")
        boxes = np.array([[-9, 0, -1, 5], [30, 40, 60, 60]], np.float32)
        extra = {"proposal_boxes": boxes, "proposal_bbox_mode": BoxMode.XYXY_ABS}
        record = {**record, **extra, "proposal_objectness_logits": np.array([0.9, 0.8], np.float32)}
        found = MammoMapper(size=(48, 40))(record)["proposals"]
        assert found.proposal_boxes.tensor.tolist() == [[30, 40, 40, 48]]
        assert found.objectness_logits.tolist() == pytest.approx([0.8])
