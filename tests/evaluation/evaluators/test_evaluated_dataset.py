"""Data sets as evaluators get them: classes and category ids of several kinds of registration."""

import json

import pytest

from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.evaluators.froc_evaluators import FrocEvaluator
from mammo_d2.evaluation.evaluators.registered import build_evaluators
from mammo_d2.framework import DatasetCatalog, MetadataCatalog, register_coco_instances
from tests.evaluation.evaluators.toy import HIT, MISS, RECORDS, config, output, run


@pytest.fixture
def registered():
    """Registers records with metadata for the time of a test; returns the name."""
    name = "evaluated_toy"

    def register(records=RECORDS, **metadata):
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).set(**metadata)
        return name

    yield register
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.fixture
def coco_dataset(tmp_path):
    """A plain COCO file, registered the way detectron2's users do: nothing in the metadata until it is loaded."""
    image = {"height": 100, "width": 60}
    content = {
        "images": [{"id": 10 + n, "file_name": f"{n}.png", **image} for n in range(3)],
        "annotations": [
            {"id": 1, "image_id": 10, "category_id": 5, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0},
            {"id": 2, "image_id": 11, "category_id": 3, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0},
        ],
        "categories": [{"id": 5, "name": "mass"}, {"id": 3, "name": "cyst"}],
    }
    (tmp_path / "plain.json").write_text(json.dumps(content))
    name = "evaluated_coco"
    register_coco_instances(name, {}, str(tmp_path / "plain.json"), str(tmp_path))
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_classes_and_rows(registered):
    dataset = EvaluatedDataset.load(registered(thing_classes=["malignant"], thing_dataset_id_to_contiguous_id={2: 0}))
    assert (dataset.classes, dataset.category_ids) == (("malignant",), (2,))
    assert dataset.records is RECORDS
    assert dataset.rows == {1: 0, 2: 1, 3: 2, 4: 3, 5: 4, 6: 5}


def test_merged_categories_are_named_by_the_first(registered):
    name = registered(thing_classes=["finding"], thing_dataset_id_to_contiguous_id={4: 0, 2: 0})
    assert EvaluatedDataset.load(name).category_ids == (4,)


def test_category_ids_count_from_one_where_the_metadata_has_none(registered):
    assert EvaluatedDataset.load(registered(thing_classes=["benign", "malignant"])).category_ids == (1, 2)


def test_a_data_set_without_class_names_is_a_named_error(registered):
    with pytest.raises(ValueError, match=r"'evaluated_toy': its metadata has no thing_classes; name the classes with"):
        EvaluatedDataset.load(registered())


def test_the_name_in_place_of_the_data_set_is_a_named_error():
    with pytest.raises(TypeError, match=r"FrocEvaluator needs the loaded data set, .*EvaluatedDataset\.load\('toy'\)"):
        FrocEvaluator("toy")


def test_a_plain_coco_data_set_is_evaluated(coco_dataset, tmp_path):
    outputs = [output((HIT, 0.75)), output((MISS, 0.5)), output((MISS, 0.25))]
    for labels, one in zip(([1], [0], [0]), outputs, strict=True):  # classes by category id: cyst, mass
        one["instances"].pred_classes = one["instances"].pred_classes.new_tensor(labels)
    images = [{"image_id": number} for number in (10, 11, 12)]
    results = run(build_evaluators(config(), coco_dataset, tmp_path / "out"), outputs, images)
    assert results["froc"]["mass/sens@0.125"] == 1
    assert results["froc"]["cyst/sens@8"] == 0
    # Patients are images: of no labels, what has no box is negative. Neither class is "malignant", so both count.
    assert (results["patient"]["num_positive"], results["patient"]["num_negative"]) == (2, 1)
    assert results["patient"]["auc"] == 1
    entries = json.loads((tmp_path / "out" / "coco_instances_results.json").read_text())
    assert [(entry["image_id"], entry["category_id"]) for entry in entries] == [(10, 5), (11, 3), (12, 3)]
