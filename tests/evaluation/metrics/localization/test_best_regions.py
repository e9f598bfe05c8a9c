"""The best regions of each class and whether they hit, by hand."""

import json
import math

import numpy as np
import pytest
import torch

from mammo_d2.evaluation.evaluators.region_evaluator import MAPS_FILE, REGIONS_FILE, RegionEvaluator
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.localization.best_regions import best_of_each_class, first_hit_ranks
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, images_from_records, lesions_from_records
from mammo_d2.framework import Boxes, DatasetCatalog, Instances, MetadataCatalog

IOM = HitRule("iom", 0.5)


def test_the_best_of_each_class_in_falling_order():
    scores = np.array([0.1, 0.9, 0.5, 0.5, 0.2, 0.7])
    labels = np.array([0, 1, 0, 0, 1, 0])
    # class 0: 0.7, then the first of the two 0.5; class 1 has two boxes only
    assert best_of_each_class(scores, labels, 2).tolist() == [5, 2, 1, 4]
    assert best_of_each_class(scores, labels, 9).tolist() == [5, 2, 3, 0, 1, 4]
    assert best_of_each_class(np.zeros(0), np.zeros(0, np.int64), 3).tolist() == []


def test_a_count_must_be_positive():
    with pytest.raises(ValueError, match="got 0"):
        best_of_each_class(np.zeros(1), np.zeros(1, np.int64), 0)


def annotation(category, x, **more):
    return {"bbox": [x, 0.0, 10.0, 10.0], "bbox_mode": 1, "category_id": category, "iscrowd": 0, **more}


def records():
    def one(number, *annotations):
        more = {"height": 100, "width": 200, "patient_id": number, "file_name": f"{number}.png"}
        return {"image_id": number, "annotations": list(annotations), **more}

    return [
        one(1, annotation(1, 40.0)),
        one(2, annotation(0, 0.0), annotation(1, 100.0)),
        one(3),
        one(4, annotation(1, 0.0, iscrowd=1), annotation(0, 0.0, ignore=1)),
    ]


# (image row, class, left side, score); every box is 20 x 20, so that IoM is the part of the lesion inside it.
REGIONS = [
    (0, 1, 0.0, 0.9),
    (0, 1, 35.0, 0.5),  # contains the lesion at 40
    (0, 1, 30.0, 0.4),  # contains it too, but comes later
    (0, 0, 40.0, 0.95),  # another class
    (1, 0, 0.0, 0.1),
    (1, 1, 50.0, 0.3),
    (2, 1, 0.0, 0.8),
    (3, 1, 0.0, 0.8),
]


def test_the_first_region_that_hits():
    image, label, left, score = (np.array(column) for column in zip(*REGIONS, strict=True))
    boxes = np.stack([left, 0 * left, left + 20, 0 * left + 20], axis=1)
    images = images_from_records(records(), ("benign", "malignant"))
    data = EvaluationData(images, lesions_from_records(records()), DetectionTable(boxes, score, image, label))
    nan, inf = math.nan, math.inf
    np.testing.assert_array_equal(first_hit_ranks(data, IOM), [[nan, 2], [1, inf], [nan, nan], [nan, nan]])


@pytest.fixture
def dataset():
    name = "regions_toy"
    DatasetCatalog.register(name, records)
    MetadataCatalog.get(name).set(thing_classes=["benign", "malignant"], thing_dataset_id_to_contiguous_id={1: 0, 2: 1})
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def outputs(with_maps):
    result = []
    for row in range(4):
        chosen = [region for region in REGIONS if region[0] == row]
        instances = Instances((100, 200))
        boxes = [[left, 0.0, left + 20, 20.0] for _, _, left, _ in chosen]
        instances.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
        instances.scores = torch.tensor([score for *_, score in chosen])
        instances.pred_classes = torch.tensor([label for _, label, _, _ in chosen])
        maps = {"saliency": torch.full((2, 3, 4), row / 4)} if with_maps else {}
        result.append({"instances": instances, **maps})
    return result


def test_numbers_and_files(dataset, tmp_path):
    evaluator = RegionEvaluator(dataset, tmp_path, IOM, top=2)
    evaluator.process([{"image_id": n} for n in (1, 2, 3, 4)], outputs(with_maps=True))
    assert evaluator.evaluate() == {
        "regions": {
            "benign/hit@1": 1.0, "benign/hit@2": 1.0, "benign/num_images": 1.0,
            "malignant/hit@1": 0.0, "malignant/hit@2": 0.5, "malignant/num_images": 2.0,
        }
    }  # fmt: skip
    entries = json.loads((tmp_path / REGIONS_FILE).read_text())
    first = [(e["category_id"], e["bbox"], pytest.approx(e["score"])) for e in entries if e["image_id"] == 1]
    # the third malignant region is not among the best two
    assert first == [
        (1, [40.0, 0.0, 20.0, 20.0], 0.95), (2, [0.0, 0.0, 20.0, 20.0], 0.9), (2, [35.0, 0.0, 20.0, 20.0], 0.5)
    ]  # fmt: skip
    with np.load(tmp_path / MAPS_FILE) as maps:
        assert sorted(maps) == ["1", "2", "3", "4"]
        assert maps["3"].shape == (2, 3, 4)
        assert maps["3"].max() == 0.5


def test_models_without_response_map_write_none(dataset, tmp_path):
    evaluator = RegionEvaluator(dataset, tmp_path, IOM)
    evaluator.process([{"image_id": n} for n in (1, 2, 3, 4)], outputs(with_maps=False))
    assert evaluator.evaluate()["regions"]["malignant/hit@3"] == 0.5
    assert not (tmp_path / MAPS_FILE).exists()


def test_a_class_without_lesion_is_undefined(dataset):
    evaluator = RegionEvaluator(dataset, None, IOM)
    evaluator.process([{"image_id": 1}], outputs(with_maps=False)[:1])
    numbers = evaluator.evaluate()["regions"]
    assert math.isnan(numbers["benign/hit@1"])
    assert numbers["malignant/hit@2"] == 1.0


def test_top_must_be_positive(dataset):
    with pytest.raises(ValueError, match=r"TEST\.REGIONS\.TOP is 0"):
        RegionEvaluator(dataset, None, IOM, top=0)
