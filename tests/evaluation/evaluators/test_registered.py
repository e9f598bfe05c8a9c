"""The evaluators as a trainer uses them: keys, files, ranks, and outputs that do not fit."""

import json

import numpy as np
import pytest
import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.evaluation.evaluators import base_evaluator
from mammo_d2.evaluation.evaluators.box_evaluators import CocoEvaluator, FrocEvaluator, PatientEvaluator
from mammo_d2.evaluation.evaluators.lesion_evaluator import LesionEvaluator
from mammo_d2.evaluation.evaluators.registered import (
    EVALUATOR_REGISTRY,
    build_evaluators,
    froc_rule_from_config,
)
from mammo_d2.evaluation.evaluators.score_evaluators import ImageScoreEvaluator, SaliencyEvaluator
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.presets import PRESETS
from mammo_d2.framework import Boxes, DatasetCatalog, Instances, MetadataCatalog, get_cfg, launch
from tests.evaluation import rank_job

SIZE = (100, 60)
HIT, MISS = [10.0, 10.0, 30.0, 30.0], [40.0, 50.0, 55.0, 70.0]


def annotation(category, **more):
    return {"bbox": [10.0, 10.0, 20.0, 20.0], "bbox_mode": 1, "category_id": category, "iscrowd": 0, **more}


def record(image_id, patient, side, annotations=(), **more):
    return {
        "image_id": image_id,
        "file_name": f"{image_id}.png",
        "height": SIZE[0],
        "width": SIZE[1],
        "patient_id": patient,
        "laterality": side,
        "annotations": list(annotations),
        **more,
    }


RECORDS = [
    record(1, "a", "L", [annotation(0, pathology="MALIGNANT", lesion_id="x")]),
    record(2, "a", "R"),
    record(3, "b", "L"),
    record(4, "b", "R"),
    record(5, "c", "L", labels={"malignant": None}),
    record(6, "d", "L", [annotation(0, pathology="benign_without_callback", lesion_id="x")]),
]


@pytest.fixture
def dataset():
    name = "evaluators_toy"
    DatasetCatalog.register(name, lambda: RECORDS)
    MetadataCatalog.get(name).set(thing_classes=["malignant"], thing_dataset_id_to_contiguous_id={2: 0})
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def output(*boxes, **more):
    """boxes: (XYXY, score)."""
    instances = Instances(SIZE)
    instances.pred_boxes = Boxes(torch.tensor([b for b, _ in boxes], dtype=torch.float32).reshape(-1, 4))
    instances.scores = torch.tensor([s for _, s in boxes], dtype=torch.float32)
    instances.pred_classes = torch.zeros(len(boxes), dtype=torch.int64)
    return {"instances": instances, **more}


OUTPUTS = [
    output((HIT, 0.75), (MISS, 0.25)),
    output(),
    output((MISS, 0.5)),
    output((MISS, 0.625)),
    output((MISS, 0.875)),
    output((HIT, 0.125)),
]


def inputs(records=RECORDS):
    return [{"image_id": r["image_id"]} for r in records]


def run(evaluator, outputs=OUTPUTS, records=RECORDS):
    evaluator.reset()
    evaluator.process(inputs(records), outputs)
    return evaluator.evaluate()


def config(names=("coco", "froc", "patient")):
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.TEST.EVALUATORS = list(names)
    return cfg


def test_default_evaluators_by_config(dataset, tmp_path):
    results = run(build_evaluators(config(), dataset, tmp_path))
    assert list(results) == ["coco", "froc", "patient"]
    froc = results["froc"]
    # False positives by score: 0.625, 0.5, 0.25 over the 5 images of known truth; hits at 0.75 and 0.125.
    assert froc["malignant/sens@0.125"] == 0.5
    assert froc["malignant/threshold@0.125"] == 0.75
    assert froc["malignant/sens@0.5"] == 0.5
    assert froc["malignant/sens@1"] == 1
    assert froc["malignant/threshold@1"] == 0.125
    assert froc["malignant/num_lesions"] == 2
    patient = results["patient"]
    # Patients a (0.75) and d (0.125) positive, b (0.625) negative, c unknown.
    assert (patient["auc"], patient["sensitivity"], patient["specificity"]) == (0.5, 0.5, 0)
    assert (patient["accuracy"], patient["num_unknown"]) == (1 / 3, 1)
    # Images: positive 0.75, 0.125; negative 0, 0.5, 0.625.
    assert patient["image_auc"] == 4 / 6
    assert patient["image_specificity"] == 2 / 3
    assert all(isinstance(v, float) for task in results.values() for v in task.values())
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        "coco.json", "froc.json", "patient.json", "coco_instances_results.json", "froc.png", "roc.png"
    }  # fmt: skip
    entries = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert len(entries) == 6
    assert entries[0] == {"image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20], "score": 0.75}
    content = json.loads((tmp_path / "froc.json").read_text())
    assert "IoU >= 0.5" in content["options"]


def test_froc_over_all_images(dataset, tmp_path):
    cfg = config(["froc"])
    cfg.TEST.FROC.FP_IMAGES = "all"
    froc = run(build_evaluators(cfg, dataset, tmp_path))["froc"]
    # The false positive of score 0.875 in the image of unknown truth counts, over 6 images.
    assert froc["malignant/sens@0.125"] == 0
    assert froc["malignant/threshold@0.125"] == np.inf
    assert froc["malignant/sens@0.25"] == 0.5
    content = json.loads((tmp_path / "froc.json").read_text())
    assert content["metrics"]["malignant/threshold@0.125"] is None


def test_froc_where_images_are_called_positive(dataset, tmp_path):
    cfg = config(["froc_classified"])
    cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY = 0.5
    probabilities = [0.9, 0.1, 0.2, 0.8, 0.95, 0.7]  # images 1 and 6 have the class; 5 is unknown
    outputs = [{**o, "image_scores": {"malignant": p}} for o, p in zip(OUTPUTS, probabilities, strict=True)]
    froc = run(build_evaluators(cfg, dataset, tmp_path), outputs)["froc_classified"]
    # Called positive at 0.9: images 1 and 5, which is unknown. Hit at 0.75, miss at 0.25, over 5 images.
    assert froc["malignant/sens@0.125"] == froc["malignant/sens@8"] == 1
    assert froc["malignant/threshold@0.125"] == 0.75
    assert froc["malignant/threshold@0.25"] == 0.25
    assert froc["malignant/num_lesions"] == 1
    content = json.loads((tmp_path / "froc_classified.json").read_text())
    assert "called positive at sensitivity 0.5" in content["options"]
    assert content["curves"]["malignant"]["threshold"] == 0.9
    assert content["curves"]["malignant"]["images_called_positive"] == 2
    assert (tmp_path / "froc_classified.png").is_file()
    with pytest.raises(ValueError, match=r'"froc_classified" needs image_scores of malignant'):
        run(build_evaluators(cfg, dataset, None))
    cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY = 0.0
    with pytest.raises(ValueError, match=r"CLASSIFICATION_SENSITIVITY is 0\.0"):
        build_evaluators(cfg, dataset, None)


def test_voc_average_precision(dataset):
    # By score: false, hit, false, false, false, hit: precision 1/2 at recall 1/2, 2/6 at recall 1.
    results = run(build_evaluators(config(["voc"]), dataset, None))["voc"]
    assert results["AP50"] == results["malignant/AP50"] == pytest.approx((1 / 2 + 2 / 6) / 2)
    assert results["AP50_11"] == pytest.approx((6 * 1 / 2 + 5 * 2 / 6) / 11)


def test_keys_are_the_same_without_any_detection_or_lesion(dataset):
    names = ("coco", "voc", "froc", "patient")
    full = run(build_evaluators(config(names), dataset, None))
    empty = run(build_evaluators(config(names), dataset, None), [output()] * 2, RECORDS[1:3])
    assert {task: list(v) for task, v in full.items()} == {task: list(v) for task, v in empty.items()}
    assert np.isnan(empty["froc"]["malignant/mean_sens"])
    assert np.isnan(empty["coco"]["AP50"])
    assert np.isnan(empty["voc"]["AP50"])
    assert np.isnan(empty["patient"]["auc"])
    assert empty["patient"]["specificity"] == 1


def test_reasons_of_undefined_numbers_are_written(dataset, tmp_path):
    run(build_evaluators(config(), dataset, tmp_path), [output()] * 2, RECORDS[1:3])
    reasons = {name: json.loads((tmp_path / f"{name}.json").read_text())["reasons"] for name in ("froc", "patient")}
    assert "no lesion" in reasons["froc"]["malignant/mean_sens"]
    assert "no positive case" in reasons["patient"]["auc"]


def test_an_image_sent_to_two_ranks_counts_once(dataset, monkeypatch):
    alone = run(FrocEvaluator(dataset))
    evaluator = FrocEvaluator(dataset)
    evaluator.process(inputs(RECORDS[:4]), OUTPUTS[:4])
    first = evaluator._found
    evaluator.reset()
    evaluator.process(inputs(RECORDS[3:]), OUTPUTS[3:])
    monkeypatch.setattr(base_evaluator.comm, "gather", lambda found, dst=0: [first, found])
    assert evaluator.evaluate() == alone


@pytest.mark.usefixtures("hidden_gpus")
def test_two_ranks_give_the_numbers_of_one(tmp_path):
    launch(rank_job.main, 2, dist_url="auto", args=(str(tmp_path / "two"),))
    rank_job.main(str(tmp_path / "one"))
    assert not (tmp_path / "two" / "rank1.json").exists()
    one, two = (json.loads((tmp_path / name / "rank0.json").read_text()) for name in ("one", "two"))
    assert one == two
    assert one["froc"]["malignant/num_lesions"] > 3


def test_other_ranks_return_nothing(dataset, monkeypatch):
    evaluator = FrocEvaluator(dataset)
    evaluator.process(inputs(), OUTPUTS)
    monkeypatch.setattr(base_evaluator.comm, "is_main_process", lambda: False)
    assert evaluator.evaluate() == {}


def test_only_predicted_images_count_and_the_log_says_so(dataset, caplog):
    with caplog.at_level("WARNING"):
        result = run(FrocEvaluator(dataset), OUTPUTS[:2], RECORDS[:2])
    assert result["froc"]["malignant/num_lesions"] == 1
    assert "2 of the 6 images" in caplog.text


def test_intervals_on_request(dataset, tmp_path):
    cfg = config(["froc", "patient"])
    cfg.TEST.BOOTSTRAP.REPLICATES = 50
    run(build_evaluators(cfg, dataset, tmp_path))
    froc = json.loads((tmp_path / "froc.json").read_text())["intervals"]["malignant/sens@1"]
    assert 0 <= froc[0] <= froc[1] <= 1
    patient = json.loads((tmp_path / "patient.json").read_text())
    assert len(patient["intervals"]["auc"]) == 2
    assert set(patient["delong_intervals"]) == {"auc", "breast_auc", "image_auc"}


def test_config_keys_reach_the_rule(dataset):
    cfg = config()
    cfg.TEST.FROC.HIT, cfg.TEST.FROC.THRESHOLD, cfg.TEST.FROC.RATES = "iom", 0.25, [1, 2]
    rule = froc_rule_from_config(cfg)
    assert (str(rule.hit), rule.rates) == ("IoM >= 0.25", (1, 2))
    cfg.TEST.FROC.PRESET = "luna16"
    assert froc_rule_from_config(cfg) == PRESETS["luna16"].rule


def test_positive_classes_and_names_are_checked(dataset):
    with pytest.raises(ValueError, match="'cancer' is not evaluated; the classes are malignant"):
        PatientEvaluator(dataset, positive_classes=["cancer"])
    with pytest.raises(ValueError, match=r"TEST\.EVALUATORS names lvis; known are coco, froc, froc_classified, image"):
        build_evaluators(config(["lvis"]), dataset, None)
    assert {name for name, _ in EVALUATOR_REGISTRY} >= {"coco", "froc", "patient", "image", "saliency", "lesion"}


def test_outputs_that_do_not_fit_are_named_errors(dataset):
    evaluator = CocoEvaluator(dataset)
    with pytest.raises(ValueError, match="image_id 99 is not in data set 'evaluators_toy'"):
        evaluator.process([{"image_id": 99}], [output()])
    with pytest.raises(ValueError, match=r"1 predicted box.* NaN or infinite, the first in image 2"):
        run(evaluator, [output(), output((HIT, float("nan")))], RECORDS[:2])


def test_image_scores(dataset, tmp_path):
    outputs = [{"image_scores": {"malignant": torch.tensor(s)}} for s in (0.75, 0.5, 0.25, 0.125, 0.875, 0.625)]
    results = run(ImageScoreEvaluator(dataset, tmp_path, plan=BootstrapPlan(20)), outputs)["image"]
    # Image 5 is unknown: positives 0.75 and 0.625 beat all others; the mean of patient a is 0.625.
    assert results["malignant/auc"] == 1
    assert results["malignant/patient_auc"] == 1
    assert results["malignant/num_unknown"] == 1
    assert "any/auc" not in results
    assert json.loads((tmp_path / "image.json").read_text())["intervals"]["malignant/auc"] == [1, 1]
    written = json.loads((tmp_path / "image_scores.json").read_text())
    assert [entry["scores"]["malignant"] for entry in written] == [0.75, 0.5, 0.25, 0.125, 0.875, 0.625]
    assert [entry["image_id"] for entry in written] == [one["image_id"] for one in RECORDS]
    with pytest.raises(ValueError, match='"image" needs image_scores of malignant; the model gives none'):
        run(ImageScoreEvaluator(dataset), OUTPUTS)
    with pytest.raises(ValueError, match="image 1 is not finite"):
        run(ImageScoreEvaluator(dataset), [{"image_scores": {"malignant": float("nan")}}], RECORDS[:1])


def test_saliency(dataset, tmp_path):
    maps = torch.zeros(1, 10, 6)
    maps[0, 1:3, 1:3] = 0.5  # rows 10..30, columns 10..30: the finding's box
    outputs = [{"saliency": maps}] + [{"saliency": torch.zeros(1, 10, 6)}] * 5
    results = run(SaliencyEvaluator(dataset, tmp_path, plan=BootstrapPlan(20)), outputs)["saliency"]
    assert results["malignant/precision"] == 1
    assert json.loads((tmp_path / "saliency.json").read_text())["intervals"]["malignant/precision"] == [1, 1]
    assert results["malignant/recall"] == 0.25
    assert results["malignant/f1"] == pytest.approx((2 * 200 / (200 + 400)) / 2)
    assert results["malignant/num_images"] == 2
    assert results["malignant/num_images_dark"] == 1
    assert results["malignant/pointing"] == pytest.approx((1 + 4 / 60) / 2)
    with pytest.raises(ValueError, match=r'"saliency" needs output\["saliency"\] with 1 map'):
        run(SaliencyEvaluator(dataset), OUTPUTS)


def test_saliency_uses_the_segmentation_where_there_is_one():
    name = "evaluators_polygon"
    triangle = annotation(0, segmentation=[[0, 0, 60, 0, 0, 100]])
    DatasetCatalog.register(name, lambda: [record(1, "a", "L", [triangle])])
    MetadataCatalog.get(name).set(thing_classes=["malignant"])
    try:
        results = run(SaliencyEvaluator(name), [{"saliency": torch.ones(1, 10, 6)}], [record(1, "a", "L")])["saliency"]
        assert results["malignant/precision"] == pytest.approx(0.5, abs=0.02)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_lesions(dataset, tmp_path):
    first, last = np.array([0.9, 0.7]), torch.tensor([[0.1, 0.3], [0.2, 0.2]])  # crops; (malignant, benign) of crops
    outputs = [{"lesion_scores": [first]}] + [{"lesion_scores": []}] * 4 + [{"lesion_scores": [last]}]
    kept = LesionEvaluator(dataset)
    np.testing.assert_allclose(kept.keep(inputs()[5], outputs[5]).malignancy, [(0.25 + 0.5) / 2])
    results = run(LesionEvaluator(dataset, tmp_path), outputs)["lesion"]
    # The same lesion_id in two patients is two lesions.
    assert (results["num_malignant"], results["num_benign"], results["num_unknown"]) == (1, 1, 0)
    assert (results["auc"], results["tnr@fnr0"]) == (1, 1)
    assert (tmp_path / "tnr_fnr.png").is_file()
    with pytest.raises(ValueError, match=r"image 1 has 1 annotation\(s\), the model gave 0"):
        run(LesionEvaluator(dataset), [{"lesion_scores": []}], RECORDS[:1])


def test_lesion_scores_are_written_with_their_windows(dataset, tmp_path):
    windows = torch.tensor([[0.0, 0.0, 16.0, 16.0], [4.0, 8.0, 28.0, 32.0]])
    samples = [{**one, "windows": windows, "window_lesion": torch.zeros(2, dtype=torch.int64)} for one in inputs()]
    outputs = [{"lesion_scores": [[0.75, 0.25]]}] + [{"lesion_scores": []}] * 4 + [{"lesion_scores": [[0.5, 0.25]]}]
    evaluator = LesionEvaluator(dataset, tmp_path)
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


def test_intervals_of_lesions(dataset, tmp_path):
    outputs = [{"lesion_scores": [0.9]}] + [{"lesion_scores": []}] * 4 + [{"lesion_scores": [0.1]}]
    run(LesionEvaluator(dataset, tmp_path, plan=BootstrapPlan(20)), outputs)
    content = json.loads((tmp_path / "lesion.json").read_text())
    # Strata of one patient each: every replicate is the data, whose malignant lesion ranks first.
    assert content["intervals"] == {f"tnr@fnr{fnr}": [1, 1] for fnr in ("0", "0.01", "0.02", "0.03", "0.05")}
    assert "20 bootstrap replicates" in content["bootstrap"]
    run(LesionEvaluator(dataset, tmp_path), outputs)
    assert "intervals" not in json.loads((tmp_path / "lesion.json").read_text())


def test_views_of_one_lesion_are_one_case():
    name = "evaluators_views"
    records = [
        record(1, "a", "L", [annotation(0, pathology="malignant", lesion_id=7)]),
        record(2, "a", "L", [annotation(0, pathology="malignant", lesion_id=7), annotation(0, pathology="unproven")]),
    ]
    DatasetCatalog.register(name, lambda: records)
    MetadataCatalog.get(name).set(thing_classes=["malignant"])
    try:
        outputs = [{"lesion_scores": [0.2]}, {"lesion_scores": [0.6, 0.5]}]
        results = run(LesionEvaluator(name), outputs, records)["lesion"]
        assert (results["num_malignant"], results["num_unknown"]) == (1, 1)
        apart = run(LesionEvaluator(name, average="annotation"), outputs, records)["lesion"]
        assert (apart["num_malignant"], apart["num_unknown"]) == (2, 1)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
