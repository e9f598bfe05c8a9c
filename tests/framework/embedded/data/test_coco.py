"""COCO JSON -> records, on both engines where the behaviour is detectron2's."""

import json
from pathlib import Path
from typing import Any

import pytest

from mammo_d2.framework import ENGINE, BoxMode, DatasetCatalog, MetadataCatalog, register_coco_instances
from tests.framework import engines

TRIANGLE = [1, 1, 9, 1, 5, 8]

load_coco_json = engines.load(ENGINE).load_coco_json


def annotation(**changed: Any) -> dict[str, Any]:
    """A valid annotation of image 1, with some keys changed."""
    return {"id": 1, "image_id": 1, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, **changed}


@pytest.fixture
def write(tmp_path: Path):
    """Write a file of two images (ids 2 and 1, in this order), classes 7 and 3, and the given annotations."""

    def _write(*annotations: dict[str, Any]) -> str:
        content = {
            "images": [
                {"id": 2, "file_name": "b.png", "height": 20, "width": 10, "patient_id": "p"},
                {"id": 1, "file_name": "a/a.png", "height": 30, "width": 40},
            ],
            "categories": [{"id": 7, "name": "malignant"}, {"id": 3, "name": "benign"}],
            "annotations": list(annotations),
        }
        path = tmp_path / "set.json"
        path.write_text(json.dumps(content))
        return str(path)

    return _write


@pytest.fixture
def name():
    """A data set name that no other test has used."""
    yield "coco_test"
    for catalog in (DatasetCatalog, MetadataCatalog):
        if "coco_test" in catalog:
            catalog.remove("coco_test")


def test_records_in_order_of_image_ids_with_contiguous_classes(write, name: str) -> None:
    file = write(annotation(), annotation(id=5, category_id=3, segmentation=[TRIANGLE]))
    records = load_coco_json(file, "images", name)
    common = {"bbox": [1, 2, 3, 4], "iscrowd": 0, "bbox_mode": BoxMode.XYWH_ABS}
    assert records == [
        {
            "file_name": "images/a/a.png",
            "height": 30,
            "width": 40,
            "image_id": 1,
            "annotations": [
                {**common, "category_id": 1},
                {**common, "category_id": 0, "segmentation": [TRIANGLE]},
            ],
        },
        {"file_name": "images/b.png", "height": 20, "width": 10, "image_id": 2, "annotations": []},
    ]
    metadata = MetadataCatalog.get(name)
    assert metadata.thing_classes == ["benign", "malignant"]
    assert metadata.thing_dataset_id_to_contiguous_id == {3: 0, 7: 1}


def test_invalid_polygons_are_dropped_and_with_the_last_the_annotation(write, name: str) -> None:
    file = write(
        annotation(id=1, segmentation=[TRIANGLE, [1, 1, 2, 2]]),
        annotation(id=2, segmentation=[[1, 1, 2, 2], [1, 1, 2, 2, 3, 3, 4]]),
        annotation(id=3, segmentation=[]),
    )
    first, third = load_coco_json(file, "", name)[0]["annotations"]
    assert first["segmentation"] == [TRIANGLE]
    assert "segmentation" not in third


def test_uncompressed_masks_are_compressed(write, name: str) -> None:
    rle = {"size": [2, 3], "counts": [1, 2, 3]}
    segmentation = load_coco_json(write(annotation(segmentation=rle)), "", name)[0]["annotations"][0]["segmentation"]
    assert segmentation["size"] == [2, 3]
    assert isinstance(segmentation["counts"], bytes)


@pytest.mark.parametrize(
    ("annotations", "error"),
    [
        ([annotation(category_id=4)], KeyError),
        ([annotation(bbox=[])], ValueError),
        ([annotation(ignore=1)], AssertionError),
        ([annotation(), annotation()], AssertionError),
    ],
)
def test_wrong_files_are_refused(write, name: str, annotations: list, error: type[Exception]) -> None:
    with pytest.raises(error):
        load_coco_json(write(*annotations), "", name)


@pytest.mark.skipif(ENGINE == "detectron2", reason="stricter than detectron2's function")
@pytest.mark.parametrize("path", ["../b.png", "/etc/b.png", "a/../../b.png"])
def test_paths_out_of_the_image_folder_are_refused(write, name: str, path: str) -> None:
    file = Path(write(annotation()))
    file.write_text(file.read_text().replace("b.png", path))
    with pytest.raises(ValueError, match=r"set\.json: image 2: file_name .*write it relative to the image folder"):
        load_coco_json(str(file), "images", name)


def test_registered_data_set_is_read_on_demand(write, name: str, tmp_path: Path) -> None:
    register_coco_instances(name, {"kind": "phantom"}, str(tmp_path / "set.json"), "images")
    write(annotation())
    assert len(DatasetCatalog.get(name)) == 2
    metadata = MetadataCatalog.get(name)
    assert (metadata.kind, metadata.evaluator_type, metadata.image_root) == ("phantom", "coco", "images")
