"""COCO AP in numpy against pycocotools to 1e-12, and what the usual summary hides."""

import dataclasses

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.coco_map import coco_average_precision
from tests.evaluation.scenes import make, random_data


def assert_same(data, backend):
    ours, theirs = coco_average_precision(data).numbers, coco_average_precision(data, backend).numbers
    assert list(ours) == list(theirs)
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=0, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("levels", [None, 4])
def test_equal_to_pycocotools_with_crowds_sizes_and_ties(seed, levels):
    data = random_data(seed, images=25, crowd=seed % 2 == 0, levels=levels, largest=110 if seed % 3 == 0 else 40)
    assert_same(data, "pycocotools")


def test_equal_to_faster_coco_eval():
    pytest.importorskip("faster_coco_eval")
    assert_same(random_data(1, images=40, crowd=True), "faster_coco_eval")


def test_by_hand():
    # Scores: hit, false, hit of two lesions: precision 1 up to recall 0.5, then 2/3: 51 and 50 of 101 recalls.
    data = make([(0, 0, 0), (1, 0, 0)], [(0, 0, 0.9), (2, 0, 0.8), (1, 0, 0.7)])
    numbers = coco_average_precision(data).numbers
    assert numbers["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)
    assert numbers["AP"] == pytest.approx(numbers["malignant/AP50"], abs=1e-12)
    assert numbers["AR"] == 1


def test_detections_on_images_without_lesions_count():
    lesion, hit = [(0, 0, 0)], (0, 0, 0.5)
    assert coco_average_precision(make(lesion, [hit])).numbers["AP50"] == 1
    assert coco_average_precision(make(lesion, [hit, (3, 0, 0.6)])).numbers["AP50"] == 0.5


def test_no_cap_on_detections_per_image():
    # 150 false boxes above the only hit: the usual 100 per image would make AP 0.
    data = make([(0, 0, 0)], [*((0, 5 + k, 1 - k / 1000) for k in range(150)), (0, 0, 0.1)])
    summary = coco_average_precision(data)
    assert summary.numbers["AP50"] == pytest.approx(1 / 151, abs=1e-12)
    assert "most: 151" in summary.options
    assert_same(data, "pycocotools")


def test_recall_of_the_best_detections():
    # Image 0: the best box hits one lesion, the 12th the other; image 1: the 101st hits its lesion.
    boxes = [(0, 0, 0.99), *((0, 5 + k, 0.9 - k / 1000) for k in range(10)), (0, 1, 0.5)]
    others = [(1, 5 + k, 0.9 - k / 1000) for k in range(100)]
    numbers = coco_average_precision(make([(0, 0, 0), (0, 1, 0), (1, 0, 0)], [*boxes, *others, (1, 0, 0.1)])).numbers
    assert numbers["AR1"] == numbers["AR10"] == pytest.approx(1 / 3)
    assert numbers["AR100"] == numbers["ARs"] == pytest.approx(2 / 3)
    assert numbers["AR"] == 1
    assert np.isnan(numbers["ARl"])


@pytest.mark.parametrize("seed", range(4))
def test_summary_of_pycocotools_itself(seed):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from mammo_d2.evaluation.metrics.detection.coco_map import _dataset, _detections

    data = random_data(seed, images=25, crowd=True, largest=110)
    truth, found = COCO(), COCO()
    truth.dataset = _dataset(data)
    truth.createIndex()
    found.dataset = {**truth.dataset, "annotations": _detections(data)}
    found.createIndex()
    run = COCOeval(truth, found, iouType="bbox")
    run.evaluate()
    run.accumulate()
    run.summarize()
    numbers = coco_average_precision(data).numbers
    names = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
    ours = [-1 if np.isnan(numbers[name]) else numbers[name] for name in names]
    np.testing.assert_allclose(ours, run.stats, rtol=0, atol=1e-12)


def test_no_detection_is_zero_and_no_lesion_is_nan_with_a_reason():
    assert coco_average_precision(make([(0, 0, 0)], [])).numbers["AP"] == 0
    summary = coco_average_precision(make([], [(0, 0, 0.5)]))
    assert np.isnan(summary.numbers["AP"])
    assert "no lesion" in summary.reasons["AP"]


def test_keys_are_always_there():
    keys = list(coco_average_precision(make([], [], classes=("benign", "malignant"))).numbers)
    assert keys == list(coco_average_precision(random_data(0)).numbers) or len(keys) == 39
    assert {"AP", "AP50", "AP75", "APs", "benign/AP50", "malignant/AR"} <= set(keys)


def test_order_of_the_file_changes_nothing_without_ties():
    data = random_data(5, images=20)
    order = np.random.default_rng(0).permutation(len(data.detections))
    shuffled = dataclasses.replace(data, detections=data.detections.take(order))
    first, second = (list(coco_average_precision(d).numbers.values()) for d in (data, shuffled))
    np.testing.assert_array_equal(first, second)


def test_unknown_backend_is_a_named_error():
    with pytest.raises(ValueError, match="'lvis' is none of numpy, pycocotools"):
        coco_average_precision(make([], []), "lvis")
