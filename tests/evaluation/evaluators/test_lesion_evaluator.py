"""Scores of lesions: crops, views, windows, intervals."""

import json

import numpy as np
import pytest
import torch

from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.evaluators.lesion_evaluator import LesionEvaluator
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from tests.evaluation.evaluators.toy import RECORDS, TOY, annotation, inputs, record, run


def test_lesions(tmp_path):
    first, last = np.array([0.9, 0.7]), torch.tensor([[0.1, 0.3], [0.2, 0.2]])  # crops; (malignant, benign) of crops
    outputs = [{"lesion_scores": [first]}] + [{"lesion_scores": []}] * 4 + [{"lesion_scores": [last]}]
    kept = LesionEvaluator(TOY)
    np.testing.assert_allclose(kept.keep(inputs()[5], outputs[5]).malignancy, [(0.25 + 0.5) / 2])
    results = run(LesionEvaluator(TOY, tmp_path), outputs)["lesion"]
    # The same lesion_id in two patients is two lesions.
    assert (results["num_malignant"], results["num_benign"], results["num_unknown"]) == (1, 1, 0)
    assert (results["auc"], results["tnr@fnr0"]) == (1, 1)
    assert (tmp_path / "tnr_fnr.png").is_file()
    with pytest.raises(ValueError, match=r"image 1 has 1 annotation\(s\), the model gave 0"):
        run(LesionEvaluator(TOY), [{"lesion_scores": []}], RECORDS[:1])


def test_lesion_scores_are_written_with_their_windows(tmp_path):
    windows = torch.tensor([[0.0, 0.0, 16.0, 16.0], [4.0, 8.0, 28.0, 32.0]])
    samples = [{**one, "windows": windows, "window_lesion": torch.zeros(2, dtype=torch.int64)} for one in inputs()]
    outputs = [{"lesion_scores": [[0.75, 0.25]]}] + [{"lesion_scores": []}] * 4 + [{"lesion_scores": [[0.5, 0.25]]}]
    evaluator = LesionEvaluator(TOY, tmp_path)
    evaluator.process(samples[:5], outputs[:5])
    evaluator.process(inputs()[5:], outputs[5:])  # of a model whose input names no windows
    evaluator.evaluate()
    first, last = json.loads((tmp_path / "lesion_scores.json").read_text())
    assert first == {
        "image_id": 1,
        "bbox": [10, 10, 20, 20],
        "malignancy": 0.5,
        "windows": [
            {"bbox": [0, 0, 16, 16], "malignancy": 0.75},
            {"bbox": [4, 8, 24, 24], "malignancy": 0.25},
        ],
        "truth": 1,
    }
    assert (last["image_id"], last["malignancy"], last["windows"], last["truth"]) == (6, 0.375, [], 0)


def test_intervals_of_lesions(tmp_path):
    outputs = [{"lesion_scores": [0.9]}] + [{"lesion_scores": []}] * 4 + [{"lesion_scores": [0.1]}]
    run(LesionEvaluator(TOY, tmp_path, plan=BootstrapPlan(20)), outputs)
    content = json.loads((tmp_path / "lesion.json").read_text())
    # Strata of one patient each: every replicate is the data, whose malignant lesion ranks first.
    assert content["intervals"] == {f"tnr@fnr{fnr}": [1, 1] for fnr in ("0", "0.01", "0.02", "0.03", "0.05")}
    assert "20 bootstrap replicates" in content["bootstrap"]
    run(LesionEvaluator(TOY, tmp_path), outputs)
    assert "intervals" not in json.loads((tmp_path / "lesion.json").read_text())


def test_a_case_is_an_annotation_unless_views_are_averaged():
    records = [
        record(1, "a", "L", [annotation(0, pathology="malignant", lesion_id=7)]),
        record(2, "a", "L", [annotation(0, pathology="malignant", lesion_id=7), annotation(0, pathology="unproven")]),
    ]
    dataset = EvaluatedDataset("views", records, ("malignant",), (1,))
    outputs = [{"lesion_scores": [0.2]}, {"lesion_scores": [0.6, 0.5]}]
    apart = run(LesionEvaluator(dataset), outputs, records)["lesion"]
    assert (apart["num_malignant"], apart["num_unknown"]) == (2, 1)
    averaged = run(LesionEvaluator(dataset, average="lesion"), outputs, records)["lesion"]
    assert (averaged["num_malignant"], averaged["num_unknown"]) == (1, 1)


def test_the_average_over_views_changes_auc():
    """Malignant in views of 0.2 and 0.9, benign 0.4: one of two views ranks first; their mean 0.55 does."""
    records = [
        record(1, "a", "L", [annotation(0, pathology="malignant", lesion_id=7)]),
        record(2, "a", "L", [annotation(0, pathology="malignant", lesion_id=7)]),
        record(3, "b", "L", [annotation(0, pathology="benign", lesion_id=7)]),
    ]
    dataset = EvaluatedDataset("views", records, ("malignant",), (1,))
    outputs = [{"lesion_scores": [score]} for score in (0.2, 0.9, 0.4)]
    assert run(LesionEvaluator(dataset), outputs, records)["lesion"]["auc"] == 0.5
    assert run(LesionEvaluator(dataset, average="lesion"), outputs, records)["lesion"]["auc"] == 1
