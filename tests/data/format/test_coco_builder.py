import json

import pytest

from mammo_d2.data.format.annotations import load_coco
from mammo_d2.data.format.coco_builder import CocoBuilder
from mammo_d2.data.format.problems import SchemaError


def test_ids_start_at_one_and_order_is_kept(tmp_path):
    builder = CocoBuilder(info={"description": "test"})
    first = builder.add_image("b.png", 50, 40, patient_id="p1", view="CC")
    second = builder.add_image("a.png", 50, 40, patient_id="p1", view="MLO")
    assert (first, second) == (1, 2)
    assert builder.add_annotation(second, [1, 2, 3, 4], "malignant", lesion_id="x") == 1
    assert builder.add_annotation(first, [0, 0, 10, 10], "benign") == 2
    report = builder.write(tmp_path / "sub" / "train.json")
    assert report.problems == []
    data = load_coco(tmp_path / "sub" / "train.json")
    assert [i["file_name"] for i in data["images"]] == ["b.png", "a.png"]
    assert data["annotations"][0] == {
        "id": 1, "image_id": 2, "category_id": 2, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "lesion_id": "x",
    }  # fmt: skip
    assert data["info"] == {"description": "test"}
    assert list((tmp_path / "sub").iterdir()) == [tmp_path / "sub" / "train.json"]


def test_wrong_references():
    builder = CocoBuilder()
    builder.add_image("a.png", 5, 5)
    with pytest.raises(ValueError, match="category 'cancer' is not one of benign, malignant"):
        builder.add_annotation(1, [0, 0, 1, 1], "cancer")
    with pytest.raises(ValueError, match="annotation for image 2"):
        builder.add_annotation(2, [0, 0, 1, 1], "benign")


def test_invalid_records_are_not_written(tmp_path):
    builder = CocoBuilder()
    builder.add_image("a.png", 5, 5, laterality="X")
    path = tmp_path / "train.json"
    path.write_text(json.dumps("old"))
    with pytest.raises(SchemaError, match=r"train\.json: image 1\.laterality = 'X'"):
        builder.write(path)
    assert json.loads(path.read_text()) == "old"
