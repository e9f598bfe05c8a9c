"""Saliency maps against boxes and segmentations."""

import json

import pytest
import torch

from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.evaluators.saliency_evaluator import SaliencyEvaluator
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from tests.evaluation.evaluators.toy import OUTPUTS, TOY, annotation, record, run


def test_saliency(tmp_path):
    maps = torch.zeros(1, 10, 6)
    maps[0, 1:3, 1:3] = 0.5  # rows 10..30, columns 10..30: the finding's box
    outputs = [{"saliency": maps}] + [{"saliency": torch.zeros(1, 10, 6)}] * 5
    results = run(SaliencyEvaluator(TOY, tmp_path, plan=BootstrapPlan(20)), outputs)["saliency"]
    assert results["malignant/precision"] == 1
    assert json.loads((tmp_path / "saliency.json").read_text())["intervals"]["malignant/precision"] == [1, 1]
    assert results["malignant/recall"] == 0.25
    cases = json.loads((tmp_path / "saliency.json").read_text())["cases"]["malignant"]
    assert (cases["image_id"], cases["precision"], cases["recall"]) == ([1, 6], [1, None], [0.5, 0])
    assert cases["pointing"] == pytest.approx([1, 4 / 60])
    assert results["malignant/f1"] == pytest.approx((2 * 200 / (200 + 400)) / 2)
    assert results["malignant/num_images"] == 2
    assert results["malignant/num_images_dark"] == 1
    assert results["malignant/pointing"] == pytest.approx((1 + 4 / 60) / 2)
    with pytest.raises(ValueError, match=r'"saliency" needs output\["saliency"\] with 1 map'):
        run(SaliencyEvaluator(TOY), OUTPUTS)


def test_saliency_uses_the_segmentation_where_there_is_one():
    triangle = annotation(0, segmentation=[[0, 0, 60, 0, 0, 100]])
    dataset = EvaluatedDataset("polygon", [record(1, "a", "L", [triangle])], ("malignant",), (1,))
    outputs = [{"saliency": torch.ones(1, 10, 6)}]
    results = run(SaliencyEvaluator(dataset), outputs, [record(1, "a", "L")])["saliency"]
    assert results["malignant/precision"] == pytest.approx(0.5, abs=0.02)
