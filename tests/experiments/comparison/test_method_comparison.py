"""Methods compared, with evaluated random outputs in place of trainings."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from mammo_d2.config.loading import load_config
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.experiments import cells
from mammo_d2.experiments.comparison.method_comparison import ComparedData, compare_methods
from mammo_d2.experiments.comparison.method_rows import MethodRow
from mammo_d2.experiments.comparison.paired_tables import TableOptions
from mammo_d2.experiments.comparison.row_statistics import box_lesion_cases
from mammo_d2.experiments.cross_validation import FoldPlan
from tests.experiments.comparison.evaluated import evaluate, write_dataset, write_lesion_scores

ROWS = [
    MethodRow("start", "", ["SOLVER.MAX_ITER", "7"], in_table=False),
    MethodRow("detector", "", ["MODEL.WEIGHTS", "{weights:start}"]),
    MethodRow("maps", "mammo_d2://quickstart/phantom_gmic.yaml", ["MODEL.WEIGHTS", ""]),
    MethodRow(
        "lesions",
        "mammo_d2://quickstart/phantom_lesion_context.yaml",
        ["MODEL.LESION.CONTEXT_WEIGHTS", "{weights:maps}"],
    ),
]


class FakeRuns:
    """A training writes weights and its cost; a test writes what the evaluators leave of random outputs."""

    def __init__(self):
        self.calls = []

    def __call__(self, folder, name, config, overrides, jobs, *flags):
        cfg = load_config(config, overrides)
        self.calls.append((name, cfg.MODEL.WEIGHTS))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(cfg.dump())
        if "--eval-only" in flags:
            (dataset,) = cfg.DATASETS.TEST
            self.test(cfg, folder, dataset)
            return
        (folder / "model_final.pth").write_bytes(str(folder).encode())
        (folder / "training_cost.json").write_text(
            json.dumps({"seconds": 120, "memory_mb": 512, "gpu_memory_mb": None})
        )
        if cfg.JOB == "LesionContextJob":
            (dataset,) = cfg.MODEL.LESION.FINAL_TEST
            stage = folder / "context_embedding_saliency"
            for path in (stage / "model_final.pth", folder / "patch" / "model_final.pth"):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"weights")
            inference = stage / "best" / "inference" / dataset
            write_lesion_scores(inference / "lesion_scores.json", annotations(cfg, dataset), seed=5)
            (inference / "metrics.json").write_text(json.dumps({"lesion": {"auc": 0.5}}))

    @staticmethod
    def test(cfg, folder, dataset):
        inference = folder / "inference" / dataset
        results = evaluate(cfg, inference, seed=cfg.SEED, dataset=dataset)
        (inference / "metrics.json").write_text(json.dumps(results).replace("NaN", "null").replace("Infinity", "null"))
        (inference / "prediction_cost.json").write_text(
            json.dumps({"seconds": 6, "images": 3, "memory_mb": 256, "gpu_memory_mb": None})
        )


def annotations(cfg, dataset):
    return Path({name: path for name, path, _ in cfg.DATASETS.REGISTER}[dataset])


@pytest.fixture
def runs(monkeypatch):
    fake = FakeRuns()
    monkeypatch.setattr(cells, "run_job", fake)
    monkeypatch.setattr(cells, "make_shared", lambda config, settings, output, jobs: settings)
    return fake


@pytest.fixture
def data(tmp_path):
    write_dataset(tmp_path, 24)
    return ComparedData(FoldPlan(tmp_path / "toy", 3))


def test_folds_and_seeds_of_different_methods(tmp_path, runs, data):
    output = tmp_path / "out"
    found = compare_methods(ROWS, data, [1, 2], output, ["MODEL.DEVICE", "cpu"])
    # Four rows, three folds, two seeds; the tests of two rows: one is not needed, one made by the training.
    assert len(runs.calls) == 4 * 6 + 2 * 6
    detectors = [weights for name, weights in runs.calls if name == "'detector' with seed 2, fold 1"]
    assert detectors == [str(output / "start" / "seed2" / "fold1" / "train" / "model_final.pth")]
    assert list(found.compared.metrics) == ["detector", "maps", "lesions"]
    metrics = {row: set(values) for row, values in found.compared.metrics.items()}
    assert "image/auc" in metrics["detector"] & metrics["maps"]
    assert {"froc/sens@1", "ap/AP50", "pointing/hit", "lesion/auc"} <= metrics["detector"] & metrics["maps"]
    assert not any(metric.startswith(("image/", "froc/")) for metric in metrics["lesions"])
    assert len(found.compared.metrics["lesions"]["lesion/auc"].units) == 2
    assert found.compared.patients == 24
    cost = found.costs["detector"]
    assert (cost.minutes, cost.training_mb, cost.seconds, cost.prediction_mb) == (2, 512, 2, 256)
    text = (output / "compare.md").read_text()
    assert "Data: toy, 3 patient-wise folds (seed 0). Class: malignant." in text
    assert "Difference to detector, with 95 % interval, paired by patient:" in text
    assert re.search(r"\| detector +\| 2\.0 +\| 0\.50 +\| 2\.000 +\| 0\.25 +\|", text)
    content = json.loads((output / "paired_malignant.json").read_text())
    assert content["rows"]["maps"]["froc/sens@1"]["difference"]["value"] == pytest.approx(
        content["rows"]["maps"]["froc/sens@1"]["value"] - content["rows"]["detector"]["froc/sens@1"]["value"]
    )
    # Nothing is done again, and the tables can be made of what is there.
    runs.calls.clear()
    assert compare_methods(ROWS, data, [1, 2], output, ["MODEL.DEVICE", "cpu"]).text == found.text
    options = TableOptions(reference="maps", only_tables=True)
    assert "Difference to maps" in compare_methods(ROWS, data, [1, 2], output, options=options).text
    assert runs.calls == []


def test_a_fixed_test_set(tmp_path, runs):
    write_dataset(tmp_path, 12)
    rows = [MethodRow("a", "", []), MethodRow("b", "", ["SOLVER.BASE_LR", "0.1"])]
    settings = ["DATASETS.ROOT", str(tmp_path), "DATASETS.TRAIN", "('toy_train',)"]
    found = compare_methods(rows, ComparedData(test="toy_test"), [3], tmp_path / "out", settings)
    assert [name for name, _ in runs.calls] == [
        "'a' with seed 3", "the test of 'a' with seed 3", "'b' with seed 3", "the test of 'b' with seed 3",
    ]  # fmt: skip
    # Random outputs of one seed: the same.
    assert found.compared.differences["b"]["image/auc"].comparison.difference == 0
    assert "toy_test" in found.text


def test_what_to_test_on_must_be_named():
    with pytest.raises(ValueError, match="name either a data set for folds"):
        ComparedData()


def test_a_detectors_score_at_a_lesion(tmp_path, runs):
    """Malignant boxes at 5..15 and benign ones at 20..30 of odd patients: the best centre in the box counts."""
    write_dataset(tmp_path, 12)
    settings = ["DATASETS.ROOT", str(tmp_path), "DATASETS.TRAIN", "('toy_train',)"]
    found = compare_methods([MethodRow("a", "")], ComparedData(test="toy_test"), [3], tmp_path / "out", settings)
    (predicted,) = found.predictions["a"]
    rule = found.rules["a"]
    assert rule.froc.hit == HitRule("center_in_box")
    cases = box_lesion_cases(predicted, predicted.boxes, predicted.findings, rule.froc, [0])
    assert len(cases.truth) == len(predicted.findings.malignant) == 14
    assert cases.truth.sum() == 8
    for number in range(14):
        x1, y1, x2, y2 = predicted.findings.boxes[number]
        mine = predicted.boxes.take(predicted.boxes.image == predicted.findings.image[number])
        centre = (mine.boxes[:, :2] + mine.boxes[:, 2:]) / 2
        inside = (centre >= [x1, y1]).all(axis=1) & (centre <= [x2, y2]).all(axis=1)
        assert cases.scores[number] == max(mine.scores[inside], default=0.0)
    assert np.isfinite(found.compared.metrics["a"]["lesion/auc"].value)
