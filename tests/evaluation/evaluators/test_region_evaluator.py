"""Regions of a class that hit its lesion, and the files that the report draws from, by hand."""

import json
import math

import numpy as np
import pytest
import torch

from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.evaluators.region_evaluator import RegionEvaluator
from mammo_d2.evaluation.files.results import MAPS_FILE, REGIONS_FILE
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.framework import Boxes, Instances
from tests.evaluation.region_scene import REGIONS, records

IOM = HitRule("iom", 0.5)
DATASET = EvaluatedDataset("regions_toy", records(), ("benign", "malignant"), (1, 2))


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


def test_numbers_and_files(tmp_path):
    evaluator = RegionEvaluator(DATASET, tmp_path, IOM, top=2)
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


def test_models_without_response_map_write_none(tmp_path):
    evaluator = RegionEvaluator(DATASET, tmp_path, IOM)
    evaluator.process([{"image_id": n} for n in (1, 2, 3, 4)], outputs(with_maps=False))
    assert evaluator.evaluate()["regions"]["malignant/hit@3"] == 0.5
    assert not (tmp_path / MAPS_FILE).exists()


def test_a_class_without_lesion_is_undefined():
    evaluator = RegionEvaluator(DATASET, None, IOM)
    evaluator.process([{"image_id": 1}], outputs(with_maps=False)[:1])
    numbers = evaluator.evaluate()["regions"]
    assert math.isnan(numbers["benign/hit@1"])
    assert numbers["malignant/hit@2"] == 1.0


def test_top_must_be_positive():
    with pytest.raises(ValueError, match=r"TEST\.REGIONS\.TOP is 0"):
        RegionEvaluator(DATASET, None, IOM, top=0)
