"""The numbers of a comparison are those that the evaluators wrote, and the rules that judge detectors."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.experiments.comparison.predictions import read_predictions
from mammo_d2.experiments.comparison.row_statistics import ANY, RowRule, default_class, row_statistics, rule_from_config
from tests.experiments.comparison.evaluated import config, evaluate, write_dataset, write_lesion_scores


def numbers(found, rule):
    """{"task/key": value} of some predictions."""
    return {
        f"{task}/{key}": float(value)
        for task, statistic in row_statistics(found, rule).items()
        for key, value in zip(statistic.keys, estimate(statistic, found.patients), strict=True)
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder)
    return folder


@pytest.mark.parametrize("name", ["malignant", "benign", ANY])
def test_the_numbers_are_those_of_the_evaluators(root, tmp_path, name):
    cfg = config(root, "TEST.IMAGE.AGGREGATE", "mean")
    written = evaluate(cfg, tmp_path, seed=1)
    found = read_predictions(tmp_path, root / "toy/annotations/test.json", cfg)
    mine = numbers(found, rule_from_config(cfg, name, (0.5, 1.0)))
    for level, prefix in (("image", ""), ("breast", "breast_"), ("patient", "patient_")):
        for key in ("auc", "pauc_ratio", "spec@sens0.85"):
            assert mine[f"{level}/{key}"] == pytest.approx(written["image"][f"{name}/{prefix}{key}"])
    pooled = "all" if name == ANY else name
    for rate in ("0.5", "1"):
        assert mine[f"froc/sens@{rate}"] == pytest.approx(written["froc"][f"{pooled}/sens@{rate}"])
    if name == ANY:
        assert mine["ap/AP50"] == pytest.approx(written["coco"]["AP50"])
        assert not any(metric.startswith("saliency/") for metric in mine)
    else:
        assert mine["regions/hit@1"] == written["regions"][f"{name}/hit@1"]
        assert mine["regions/hit@3"] == written["regions"][f"{name}/hit@3"]
        for key in ("f1", "pointing"):
            assert mine[f"saliency/{key}"] == pytest.approx(written["saliency"][f"{name}/{key}"])
    assert 0 < mine["froc/sens@1"] < 1


def test_without_image_scores_an_image_has_its_highest_box_score(root, tmp_path):
    cfg = config(root, "TEST.EVALUATORS", "['froc', 'patient']", "TEST.IMAGE.AGGREGATE", "mean")
    written = evaluate(cfg, tmp_path, seed=2)["patient"]
    found = read_predictions(tmp_path, root / "toy/annotations/test.json", cfg)
    assert found.image_scores is None
    mine = numbers(found, rule_from_config(cfg, "malignant"))
    assert mine["image/auc"] == pytest.approx(written["image_auc"])
    assert mine["breast/auc"] == pytest.approx(written["breast_auc"])
    assert mine["patient/auc"] == pytest.approx(written["auc"])


def test_merged_classes(root, tmp_path):
    cfg = config(root, "DATASETS.MERGE_CATEGORIES", "lesion")
    written = evaluate(cfg, tmp_path, seed=3)
    found = read_predictions(tmp_path, root / "toy/annotations/test.json", cfg)
    mine = numbers(found, rule_from_config(cfg, "lesion"))
    assert mine["froc/sens@1"] == pytest.approx(written["froc"]["lesion/sens@1"])
    assert mine["image/auc"] == pytest.approx(written["image"]["lesion/auc"])
    with pytest.raises(ValueError, match="no class 'malignant'; the run knows lesion"):
        row_statistics(found, RowRule("malignant"))


def test_lesion_cases_are_lesions_or_annotations(root, tmp_path):
    """Two views of each lesion: 4 malignant lesions and 3 benign ones."""
    annotations = root / "toy/annotations/test.json"
    entries = write_lesion_scores(tmp_path / "lesion_scores.json", annotations, seed=4)
    cases = read_predictions(tmp_path, annotations, config(root, "TEST.LESION.AVERAGE", "lesion")).lesion_cases
    assert (len(cases.truth), cases.truth.sum()) == (7, 4)
    names = {a["id"]: a["lesion_id"] for a in json.loads(annotations.read_text())["annotations"]}
    first = names[entries[0]["annotation_id"]]
    views = [e["malignancy"] for e in entries if names[e["annotation_id"]] == first]
    assert cases.scores[0] == pytest.approx(np.mean(views))
    cfg = config(root, "TEST.LESION.AVERAGE", "annotation")
    found = read_predictions(tmp_path, annotations, cfg)
    assert found.lesion_cases.scores.tolist() == [e["malignancy"] for e in entries]
    truth, scores = found.lesion_cases.truth, found.lesion_cases.scores
    pairs = np.subtract.outer(scores[truth == 1], scores[truth == 0])
    mine = numbers(found, RowRule("malignant"))
    assert mine["lesion/auc"] == pytest.approx((pairs > 0).mean())
    assert set(mine) >= {"lesion/tnr@fnr0", "lesion/tnr@fnr0.02"}
    assert not any(metric.startswith(("image/", "froc/")) for metric in mine)


def test_headings_name_the_rates():
    headings = RowRule("malignant", rates=(0.5, 2.0)).headings()
    assert (headings["froc/sens@0.5"], headings["froc/sens@2"]) == ("sens@0.5", "sens@2")
    assert list(headings)[:2] == ["image/auc", "breast/auc"]


def test_default_class():
    assert default_class(["benign", "malignant"]) == "malignant"
    assert default_class(["mass", "calcification"]) == "mass"
