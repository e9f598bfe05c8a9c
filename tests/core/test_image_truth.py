"""Positive, negative or unknown: one answer, and everything that asks gets it."""

import math

import numpy as np
import pytest
import torch

from mammo_d2.core.image_truth import image_truth, joined_truth, stated_labels, truth_without_boxes
from mammo_d2.core.lesion_classes import NEGATIVE
from mammo_d2.data.lesions.patches import patch_sources
from mammo_d2.data.loading.exam_sampler import ExamSampler
from mammo_d2.data.loading.samplers import split_pools
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.tables import (
    EvaluationData,
    empty_detections,
    images_from_records,
    lesions_from_records,
)
from mammo_d2.modeling.image_labels import Finding, image_targets

CLASSES = ("benign", "malignant")


def box(category, **more):
    return {"bbox": [1.0, 2.0, 3.0, 4.0], "bbox_mode": 1, "category_id": category, **more}


@pytest.mark.parametrize(
    ("record", "truth"),
    [
        ({"annotations": []}, [0, 0]),
        ({"annotations": [], "labels": {}}, [0, 0]),
        ({"annotations": [], "labels": {"mass": 1}}, [0, 0]),  # about other classes
        ({"annotations": [box(1)]}, [0, 1]),
        ({"annotations": [], "labels": {"benign": None, "malignant": None}}, [None, None]),
        ({"annotations": [], "labels": {"benign": None, "malignant": 0}}, [None, 0]),
        ({"annotations": [], "labels": {"malignant": 0}}, [None, 0]),
        ({"annotations": [], "labels": {"benign": 0, "malignant": 0}}, [0, 0]),
        ({"annotations": [], "labels": {"benign": 1, "malignant": 0}}, [1, 0]),
        ({"annotations": [box(0)], "labels": {"benign": None, "malignant": None}}, [1, None]),
        ({"annotations": [box(0)], "labels": {"benign": 0, "malignant": 0}}, [1, 0]),
        ({"annotations": [box(1, ignore=1)]}, [0, 0]),
        ({"annotations": [box(1, iscrowd=1)]}, [0, 1]),
    ],
)
def test_truth_of_an_image(record, truth):
    assert image_truth(record, CLASSES) == truth


@pytest.mark.parametrize(
    ("values", "truth"),
    [([], 0), ([0, 0], 0), ([0, None], None), ([None, None], None), ([None, 1], 1), ([0, 1], 1)],
)
def test_truth_taken_together(values, truth):
    assert joined_truth(iter(values)) == truth


def test_labels_that_name_no_class_say_nothing():
    assert stated_labels(None, CLASSES) is None
    assert stated_labels({"mass": 1}, CLASSES) is None
    assert stated_labels({"malignant": 1}, CLASSES) == [None, 1]


# Images without a box, by their labels; as (benign or malignant, malignant alone): p has a finding, n is negative, ? is
# unknown.
CASES = {
    "labels absent": (None, "nn"),
    "all null": ({"benign": None, "malignant": None}, "??"),
    "benign null": ({"benign": None, "malignant": 0}, "?n"),
    "malignant null": ({"benign": 0, "malignant": None}, "??"),
    "all 0": ({"benign": 0, "malignant": 0}, "nn"),
    "malignant": ({"benign": 0, "malignant": 1}, "pp"),
    "malignant, benign null": ({"benign": None, "malignant": 1}, "pp"),
    "benign": ({"benign": 1, "malignant": 0}, "pn"),
}


@pytest.mark.parametrize("classes", [CLASSES, ("malignant",)])
@pytest.mark.parametrize("case", CASES)
def test_everybody_agrees(case, classes):
    labels, expected = CASES[case]
    verdict = expected[len(classes) == 1]
    image = {"image_id": 1, "file_name": "a.png", "height": 64, "width": 64, "annotations": []}
    image |= {} if labels is None else {"labels": labels}
    positive = {**image, "image_id": 2, "annotations": [box(0)], "exam_id": "other"}
    records = [image, positive]

    pools = split_pools(records, classes)
    pool = {"p": pools.unlocalized, "n": pools.negatives, "?": pools.unknown}
    assert {name: list(rows) for name, rows in pool.items()} == {key: [0] if key == verdict else [] for key in "pn?"}
    assert (list(pools.positives), list(pools.all)) == ([1], [0, 1])
    assert pools.located == ([0, 1] if verdict == "n" else [1])

    negative_patches = patch_sources(records, classes, smallest=16).pools[NEGATIVE]
    assert bool(negative_patches) == (verdict == "n")

    data = EvaluationData(images_from_records(records, classes), lesions_from_records(records), empty_detections())
    for rule, counted in (("negative", verdict == "n"), ("known", verdict != "?"), ("all", True)):
        assert froc_events(data, FrocRule(fp_images=rule)).counted[0] == counted

    # What learns from image labels needs them; then it masks what the others do not count.
    if labels is not None:
        target = image_targets([image], [Finding("any", classes)], torch.device("cpu")).item()
        np.testing.assert_equal(target, {"p": 1.0, "n": 0.0, "?": math.nan}[verdict])


def test_exams_of_which_something_is_known_are_drawn():
    """The losses mask what is unknown: an exam that is without cancer teaches that, whatever benign it may show."""
    for case, drawn in (("all null", False), ("benign null", True), ("malignant null", True), ("labels absent", True)):
        records = [
            {"image_id": 1, "file_name": "a.png", "annotations": [], "labels": CASES[case][0]},
            {"image_id": 2, "file_name": "b.png", "annotations": [box(1)]},
        ]
        epoch = ExamSampler.from_pools(split_pools(records, CLASSES), seed=0).epoch(0)
        assert sorted(epoch.tolist()) == ([0, 1] if drawn else [1])


@pytest.mark.parametrize(
    ("record", "truth"),
    [
        ({"annotations": [box(1)], "labels": {"benign": 1, "malignant": 1}}, None),  # it has a box
        ({"annotations": [box(0, iscrowd=1), box(1)]}, None),
        ({"annotations": [], "labels": {"benign": 0, "malignant": 0}}, None),  # negative
        ({"annotations": []}, None),
        ({"annotations": [], "labels": {"benign": 0, "malignant": 1}}, [0, 1]),
        ({"annotations": [], "labels": {"malignant": 0}}, [None, 0]),
        ({"annotations": [box(1, iscrowd=1)]}, [0, 1]),
        ({"annotations": [box(1, iscrowd=1, ignore=1)]}, [0, None]),
    ],
)
def test_truth_of_images_without_boxes(record, truth):
    """Whatever is not None here must not be learned as a negative image; every other image without a box is one."""
    assert truth_without_boxes(record, CLASSES) == truth
    pools = split_pools([record], CLASSES)
    assert bool(truth) == bool(pools.unlocalized or pools.unknown)
