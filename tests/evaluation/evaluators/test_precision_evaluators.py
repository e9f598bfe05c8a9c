"""Average precision of the toy data set by hand, and the COCO results files."""

import json

import pytest

from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.evaluators.precision_evaluators import CocoEvaluator, VocEvaluator
from tests.evaluation.evaluators.toy import HIT, MISS, TOY, output, record, run


def test_voc_average_precision():
    # By score: false, hit, false, false, false, hit: precision 1/2 at recall 1/2, 2/6 at recall 1.
    results = run(VocEvaluator(TOY))["voc"]
    assert results["AP50"] == results["malignant/AP50"] == pytest.approx((1 / 2 + 2 / 6) / 2)
    assert results["AP50_11"] == pytest.approx((6 * 1 / 2 + 5 * 2 / 6) / 11)


def test_boxes_in_pixels_of_the_prepared_images_and_of_the_original_files(tmp_path):
    # The prepared image is the source's crop at (50, 10), 200 x 380, flipped and scaled to half, a quarter across.
    transform = {"source_size": [400, 300], "crop": [50, 10, 200, 380], "flip": True, "scale": [0.5, 0.25]}
    records = [record(1, "a", "L", transform=transform), record("two", "b", "L")]
    dataset = EvaluatedDataset("sources", records, ("malignant",), (7,))
    run(CocoEvaluator(dataset, tmp_path), [output(([10.0, 20, 15, 50], 0.5)), output((MISS, 0.25))], records)
    prepared = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert [entry["bbox"] for entry in prepared] == [[10, 20, 5, 30], [40, 50, 15, 20]]
    source = json.loads((tmp_path / "coco_instances_results_source.json").read_text())
    assert source == [
        {"image_id": 1, "category_id": 7, "bbox": [190, 50, 20, 60], "score": 0.5},
        {"image_id": "two", "category_id": 7, "bbox": [40, 50, 15, 20], "score": 0.25},
    ]


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # Of equal scores the first and the last hit: precision 1 at 51 of 101 recalls, 2/6 at the others.
    results = run(CocoEvaluator(TOY), [output((HIT, 0.5))] * 6)
    assert results["coco"]["AP50"] == pytest.approx((51 + 50 * 2 / 6) / 101)
    assert not list(tmp_path.iterdir())
