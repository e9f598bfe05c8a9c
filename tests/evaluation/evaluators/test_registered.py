"""Evaluators by the names of the config: their keys, files and options."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.evaluators.froc_evaluators import FrocEvaluator
from mammo_d2.evaluation.evaluators.registered import (
    EVALUATOR_REGISTRY,
    build_evaluators,
    froc_rule_from_config,
    named_evaluators,
    takes_dataset,
)
from mammo_d2.evaluation.metrics.detection.presets import PRESETS
from mammo_d2.framework import DatasetCatalog, DatasetEvaluator, MetadataCatalog
from tests.evaluation.evaluators.toy import OUTPUTS, RECORDS, config, output, run


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
        "coco.json", "froc.json", "patient.json", "froc.png", "roc.png",
        "coco_instances_results.json", "coco_instances_results_source.json",
    }  # fmt: skip
    entries = json.loads((tmp_path / "coco_instances_results.json").read_text())
    assert len(entries) == 6
    assert entries[0] == {"image_id": 1, "category_id": 2, "bbox": [10, 10, 20, 20], "score": 0.75}
    content = json.loads((tmp_path / "froc.json").read_text())
    assert "IoU >= 0.5" in content["options"]


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


@pytest.mark.parametrize(("kind", "unit"), [("center_px", "pixels"), ("center_mm", "millim"), ("center_max", "pixels")])
def test_a_distance_is_not_the_default_of_an_overlap(kind, unit):
    cfg = config()
    cfg.TEST.FROC.HIT = kind
    with pytest.raises(ValueError, match=rf"HIT {kind} with TEST\.FROC\.THRESHOLD 0\.5: .*the distance in {unit}"):
        froc_rule_from_config(cfg)
    cfg.TEST.FROC.THRESHOLD = 20.0
    assert froc_rule_from_config(cfg).hit.threshold == 20
    cfg.TEST.FROC.HIT, cfg.TEST.FROC.THRESHOLD = "center_half_diagonal", 0.5  # a factor
    assert froc_rule_from_config(cfg).hit.threshold == 0.5


def test_names_are_checked(dataset):
    with pytest.raises(ValueError, match=r"TEST\.EVALUATORS names lvis; known are coco, froc, froc_classified, image"):
        build_evaluators(config(["lvis"]), dataset, None)
    assert {name for name, _ in EVALUATOR_REGISTRY} >= {"coco", "froc", "patient", "image", "saliency", "lesion"}


class CountBoxes(DatasetEvaluator):
    """An evaluator of other code: no base class of ours, no ground truth."""

    def reset(self):
        self.boxes = 0

    def process(self, inputs, outputs):
        self.boxes += sum(len(output["instances"]) for output in outputs)

    def evaluate(self):
        return {"count": {"boxes": self.boxes}}


@pytest.fixture
def own_builders():
    """Registers builders for the time of a test, by name."""
    names = []

    def register(**builders):
        for name, builder in builders.items():
            EVALUATOR_REGISTRY._do_register(name, builder)
            names.append(name)

    yield register
    for name in names:
        EVALUATOR_REGISTRY._obj_map.pop(name)


@pytest.fixture
def counted():
    """Name of a data set, and the list that gets an entry whenever it is loaded."""
    name, loads = "evaluators_counted", []
    DatasetCatalog.register(name, lambda: loads.append(name) or RECORDS)
    MetadataCatalog.get(name).set(thing_classes=["malignant"])
    yield name, loads
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_the_data_set_is_loaded_once_for_all_evaluators(counted, tmp_path):
    name, loads = counted
    cfg = config([n for n, _ in EVALUATOR_REGISTRY])
    evaluators = named_evaluators(cfg, name, tmp_path)
    assert len(evaluators) == 9
    assert len(loads) == 1
    run(build_evaluators(config(), name, tmp_path))
    assert len(loads) == 2  # the evaluation itself loads nothing, its files in source pixels included
    assert (tmp_path / "coco_instances_results_source.json").is_file()


def test_builders_of_other_code_get_the_name_or_the_loaded_data_set(counted, own_builders):
    name, loads = counted
    called = []

    def count(cfg, dataset_name, output_dir):
        called.append((dataset_name, output_dir))
        return CountBoxes()

    @takes_dataset
    def own_froc(cfg, dataset, output_dir):
        called.append((dataset.name, dataset.records is RECORDS, dataset.category_ids))
        return FrocEvaluator(dataset, output_dir)

    own_builders(count=count, own_froc=own_froc)
    evaluators = build_evaluators(config(["count"]), name, "out")
    assert (called.pop(), loads) == ((name, "out"), [])  # the name does not load it
    assert run(evaluators) == {"count": {"boxes": 6}}
    assert list(run(build_evaluators(config(["count", "own_froc", "froc_classified"]), name, None), with_scores()))
    assert called == [(name, None), (name, True, (1,))]
    assert len(loads) == 1


def with_scores():
    return [{**one, "image_scores": {"malignant": 0.5}} for one in OUTPUTS]
