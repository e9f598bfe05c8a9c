"""A study of systems by hand: numbers, reasons, levels, and a system against itself."""

import numpy as np
import pytest

from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.presets import get_preset
from mammo_d2.evaluation.study.run_study import run_study
from mammo_d2.evaluation.study.study import LEVELS, StudyOptions, System
from tests.evaluation.scenes import DETECTIONS, LESIONS, make

NO_BOOTSTRAP = StudyOptions(plan=BootstrapPlan(0), all_thresholds=False)


def truth_of(data):
    return GroundTruth("truth.json", data.images, data.lesions, {1: 0}, (), {"malignant": 0}, {"left out": 2})


@pytest.fixture
def data():
    """Patient 0 has images 0 and 1, which show lesions; patient 1 has images 2 and 3, which show none."""
    return make(LESIONS, DETECTIONS)


def test_numbers_of_boxes_by_hand(data):
    study = run_study(truth_of(data), [System("boxes", data.detections, notes={"also left out": 1})], NO_BOOTSTRAP)
    (report,) = study.systems
    assert report.notes == {"left out": 2, "also left out": 1}
    values = {name: metric.value for name, metric in report.metrics.items()}
    # Hits at 0.9 and 0.5 (tied with a false one) of three lesions; false ones at 0.8, 0.7, 0.5, 0.2 in four images.
    assert values["froc/malignant/sens@0.25"] == 1 / 3
    assert values["froc/malignant/sens@1"] == 2 / 3
    assert values["froc/malignant/threshold@1"] == 0.2
    # Images score 0.9, 0.5 (positive), 0.7, 0.5 (negative): pairs won 1 + 1 + 0 + 1/2 of 4.
    assert values["image/auc"] == 2.5 / 4
    assert (values["patient/auc"], values["patient/num_positive"], values["patient/num_negative"]) == (1, 1, 1)
    assert set(report.auc) == set(report.roc_curves) == set(LEVELS)
    assert np.isnan(report.metrics["image/auc"].interval.low)
    assert study.pairs == []
    assert "no bootstrap" in study.options[2]


def test_image_scores_replace_those_of_boxes(data):
    scores = np.array([[0.1], [0.2], [0.8], [np.nan]])
    study = run_study(truth_of(data), [System("both", data.detections, scores)], NO_BOOTSTRAP)
    metrics = study.systems[0].metrics
    assert metrics["image/auc"].value == 0
    assert metrics["froc/malignant/sens@1"].value == 2 / 3
    assert study.systems[0].notes["image cases without score (left out)"] == 1


def test_undefined_numbers_have_a_reason(data):
    none = make([], DETECTIONS)
    metrics = run_study(truth_of(none), [System("boxes", none.detections)], NO_BOOTSTRAP).systems[0].metrics
    assert np.isnan(metrics["froc/malignant/sens@1"].value)
    assert "no lesion" in metrics["froc/malignant/sens@1"].reason
    assert np.isnan(metrics["patient/auc"].value)
    assert "no positive case" in metrics["patient/auc"].reason


def test_a_system_against_itself_differs_by_nothing(data):
    systems = [System("a", data.detections), System("b", data.detections)]
    done = []
    options = StudyOptions(plan=BootstrapPlan(20), all_thresholds=False)
    study = run_study(truth_of(data), systems, options, done.append)
    (pair,) = study.pairs
    assert (pair.first, pair.second, sum(done)) == ("a", "b", 20)
    defined = [comparison for comparison in pair.differences.values() if not np.isnan(comparison.p)]
    assert defined
    assert {(comparison.difference, comparison.p) for comparison in defined} == {(0.0, 1.0)}


def test_a_system_without_results_is_a_named_error(data):
    with pytest.raises(ValueError, match="system 'empty' has neither detections nor image scores"):
        run_study(truth_of(data), [System("empty")], NO_BOOTSTRAP)


@pytest.mark.parametrize(("name", "key"), [("dbtex", "mean_sensitivity_positive"), ("picai", "ranking_score")])
def test_presets_give_the_challenges_own_numbers(data, name, key):
    options = StudyOptions(get_preset(name), plan=BootstrapPlan(5))
    metrics = run_study(truth_of(data), [System("boxes", data.detections)], options).systems[0].metrics
    assert 0 < metrics[f"challenge/malignant/{key}"].value <= 1
    if name == "picai":
        parts = metrics["image/auc"].value + metrics["ap/malignant/AP@0.1"].value
        assert metrics[f"challenge/malignant/{key}"].value == parts / 2
        assert metrics[f"challenge/malignant/{key}"].interval.low <= parts / 2


def test_intervals_for_few_positive_patients(data):
    """One positive and one negative patient: replicates are all alike, and a percentile interval is a point."""
    systems = [System("a", data.detections), System("b", data.detections)]
    found = {}
    for kind in ("percentile", "beta"):
        options = StudyOptions(plan=BootstrapPlan(10), all_thresholds=False, interval=kind)
        study = run_study(truth_of(data), systems, options)
        found[kind] = study.systems[0].metrics["patient/auc"].interval, study.pairs[0].differences["patient/auc"]
        assert f"95% {kind} intervals from 10" in study.options[2]
    assert (found["percentile"][0].low, found["percentile"][0].high) == (1, 1)
    assert (found["beta"][0].low, found["beta"][0].high) == (pytest.approx(0.025), 1)  # Clopper-Pearson's of 1 of 1
    difference = found["beta"][1]
    assert (difference.difference, difference.low < -0.9, difference.high > 0.9) == (0, True, True)
    assert difference.p == found["percentile"][1].p
