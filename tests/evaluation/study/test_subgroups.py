"""Metrics of a subgroup are those of the data without the others; tests of systems and of their differences."""

import csv

import numpy as np
import pytest

from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.files.subgroup_columns import SubgroupSplit
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.study.run_study import run_study
from mammo_d2.evaluation.study.study import StudyOptions, System
from mammo_d2.evaluation.study.subgroups import run_subgroups, subgroups_text, write_subgroups
from tests.evaluation.scenes import DETECTIONS, LESIONS, make, random_data


def truth_of(data):
    names = {name: number for number, name in enumerate(data.images.classes)}
    return GroundTruth("truth.json", data.images, data.lesions, {n + 1: n for n in names.values()}, (), names, {})


def options(replicates=0):
    return StudyOptions(plan=BootstrapPlan(replicates), all_thresholds=False)


def value_of(study, subgroup, metric):
    (value,) = [v.value for v in study.values if (v.subgroup, v.metric) == (subgroup, metric)]
    return value


def test_images_of_a_subgroup_alone():
    data = make(LESIONS, DETECTIONS)
    # Patient 0 has images 0 and 1, patient 1 has 2 and 3; image 3 is of unknown view.
    split = SubgroupSplit("view", False, ("CC", "MLO"), np.array([0, 1, 0, -1]))
    metrics = ["froc/malignant/sens@0.5", "froc/malignant/sens@1", "image/auc", "image/specificity"]
    study = run_subgroups(truth_of(data), [System("a", data.detections)], options(), [split], metrics)
    # CC: images 0 (two lesions, hit at 0.9, false 0.8) and 2 (false 0.7). MLO: image 1, hit at 0.5.
    assert value_of(study, "CC", "froc/malignant/sens@0.5") == 1 / 2
    assert value_of(study, "MLO", "froc/malignant/sens@0.5") == 1
    assert value_of(study, "CC", "image/auc") == 1
    assert np.isnan(value_of(study, "MLO", "image/auc"))
    assert value_of(study, "unknown", "image/specificity") == 1
    sizes = {(v.subgroup, v.images, v.patients, v.lesions) for v in study.values}
    assert sizes == {("CC", 2, 2, None), ("MLO", 1, 1, None), ("unknown", 1, 1, None)}


def test_lesions_of_other_subgroups_count_neither_way():
    data = make(LESIONS, DETECTIONS)
    split = SubgroupSplit("lesion.type", True, ("mass", "other"), np.array([0, 1, 0]))
    metric = "froc/malignant/sens@1"
    study = run_subgroups(truth_of(data), [System("a", data.detections)], options(), [split], [metric, "image/auc"])
    # Both masses are found, the other lesion is not; hits of masses are no false positives for it.
    assert (value_of(study, "mass", metric), value_of(study, "other", metric)) == (1, 0)
    assert {(v.metric, v.lesions) for v in study.values} == {(metric, 2), (metric, 1)}


def test_a_column_of_one_value_gives_the_whole_study():
    data = random_data(3, images=30)
    systems = [System("a", data.detections)]
    whole = run_study(truth_of(data), systems, options(40))
    split = SubgroupSplit("site", False, ("x",), np.zeros(30, np.int64))
    metrics = ["froc/c0/mean_sens", "ap/c1/AP@0.5", "image/auc", "image/ap"]
    study = run_subgroups(truth_of(data), systems, options(40), [split], metrics)
    for value in study.values:
        expected = whole.systems[0].metrics[value.metric]
        assert not np.isnan(value.value)
        assert (value.value, value.interval) == (expected.value, expected.interval)
    assert {test.result.reason for test in study.tests} == {"fewer than two subgroups in which it is defined"}


def test_tests_of_systems_and_their_difference(tmp_path):
    data = random_data(1, images=120, classes=1)
    group = np.arange(120) // 3 % 2
    split = SubgroupSplit("site", False, ("x", "y"), group)
    found = data.detections
    # The second system finds nothing at site y.
    fewer = found.take((group[found.image] == 0) | (found.scores < 0.02))
    systems = [System("a", found), System("same", found), System("fewer", fewer)]
    study = run_subgroups(truth_of(data), systems, options(150), [split], ["froc/c0/mean_sens"])
    tests = {test.system: test for test in study.tests}
    assert set(tests) == {"a", "same", "fewer", "same - a", "fewer - a"}
    assert tests["a"].result == tests["same"].result
    assert tests["same - a"].result.p == 1
    assert tests["fewer - a"].result.p < 1e-4
    assert tests["a"].p_holm == tests["a"].result.p
    assert "p (Holm)" in subgroups_text(study)
    first, second = write_subgroups(study, tmp_path)
    rows = list(csv.DictReader(first.open()))
    assert len(rows) == 6
    assert float(rows[0]["value"]) == study.values[0].value
    assert [row["system"] for row in csv.DictReader(second.open())] == list(tests)


def test_an_unknown_metric_is_a_named_error():
    data = make(LESIONS, DETECTIONS)
    split = SubgroupSplit("view", False, ("CC",), np.zeros(4, np.int64))
    with pytest.raises(ValueError, match="metric 'image/aucs': system 'a' has none of that name; it has froc/"):
        run_subgroups(truth_of(data), [System("a", data.detections)], options(), [split], ["image/aucs"])
