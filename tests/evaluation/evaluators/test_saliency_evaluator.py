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


def test_f1_is_of_the_networks_cells_as_published_unless_the_placement_is_ours():
    """A finding in the first of two cells of 30 columns; placed by receptive field the first cell ends at column 15."""
    box = annotation(0)
    dataset = EvaluatedDataset("one", [record(1, "a", "L", [{**box, "bbox": [0, 0, 30, 100]}])], ("malignant",), (1,))
    placed = torch.tensor([[[1.0, 0.0, 0.0, 0.0]]])
    outputs = [{"saliency": placed, "network_saliency": torch.tensor([[[1.0, 0.0]]])}]

    def measured(**settings):
        return run(SaliencyEvaluator(dataset, **settings), outputs, [record(1, "a", "L")])["saliency"]

    assert measured()["malignant/recall"] == 1
    assert measured(placement="receptive_field")["malignant/recall"] == pytest.approx(0.5)
    # The pointing game is ours, and stays where the network looked.
    assert measured()["malignant/pointing"] == measured(placement="receptive_field")["malignant/pointing"] == 1
    with pytest.raises(ValueError, match=r"TEST.SALIENCY.PLACEMENT is 'stretched'; use one of published, rec"):
        measured(placement="stretched")
