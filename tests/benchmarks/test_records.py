"""The three starts give the same batch; the table has a row for each."""

import json

import pytest

from benchmarks.records import STARTS, measure, write_split
from mammo_d2.data.format.annotations import validate_coco
from mammo_d2.framework import DatasetCatalog, MetadataCatalog


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.delenv("MAMMO_D2_DATASETS", raising=False)
    for split, images in (("train", 60), ("test", 8)):
        write_split(tmp_path / "big", split, images, per_folder=20)
    yield tmp_path
    for name in ("big_train", "big_test"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_the_starts_give_the_same_batch(root):
    annotations = root / "big" / "annotations"
    coco = json.loads((annotations / "train.json").read_text())
    assert len(coco["annotations"]) >= 1
    assert validate_coco(coco, root / "big" / "images", check_images="exists").problems == []
    found = [measure(root, start) for start in STARTS]
    assert len({row["ids"] for row in found}) == 1
    assert all(row["worker"] > 0 and row["peak"] >= row["imported"] for row in found)
    assert sorted(path.name for path in annotations.glob("*.records")) == ["test.records", "train.records"]
