"""Hit rules by hand-computed overlaps and distances; greedy assignment by hand and against a plain loop."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.matching import (
    HitRule,
    assign_greedy,
    find_hits,
    order_of_boxes,
    order_of_detections,
    pair_overlap,
    rank_within,
)

A = np.array([[0.0, 0.0, 10.0, 10.0]])


def moved(x, y):
    return A + np.array([x, y, x, y])


@pytest.mark.parametrize(
    ("kind", "offset", "expected"),
    [
        ("iou", 0, 25 / (100 + 100 - 25)),
        ("iom", 0, 25 / 100),
        ("iobb", 0, 25 / 100),
        ("iou", 1, 36 / (121 + 121 - 36)),
    ],
)
def test_overlap_of_two_shifted_squares(kind, offset, expected):
    b = A + 5
    assert pair_overlap(kind, A, b, offset)[0] == pytest.approx(expected, abs=1e-15)


def test_overlap_kinds_differ_for_a_small_box_inside():
    small = np.array([[2.0, 2.0, 4.0, 4.0]])
    overlaps = {kind: float(pair_overlap(kind, small, A)[0]) for kind in ("iou", "iom", "iobb", "iogt")}
    assert overlaps == {"iou": 0.04, "iom": 1.0, "iobb": 1.0, "iogt": 0.04}


def test_boxes_without_area_or_contact_overlap_nothing():
    point = np.array([[3.0, 3.0, 3.0, 3.0]])
    assert pair_overlap("iom", point, A)[0] == 0
    assert pair_overlap("iou", A, A + 10)[0] == 0


def hits(rule, det, gt, spacing=None):
    det, gt = np.atleast_2d(np.array(det, float)), np.atleast_2d(np.array(gt, float))
    zeros = np.zeros(len(det), int), np.zeros(len(gt), int)
    return len(find_hits(rule, det, zeros[0], gt, zeros[1], spacing)) == 1


@pytest.mark.parametrize(
    ("rule", "shift", "hit"),
    [
        (HitRule("iou", 1 / 3), 5, True),  # 50 / 150
        (HitRule("iou", 1 / 3, strict=True), 5, False),
        (HitRule("center_in_box"), 5, True),
        (HitRule("center_in_box", strict=True), 5, False),
        (HitRule("center_in_box"), 5.5, False),
        (HitRule("center_half_diagonal", 1.0), 7, True),  # half diagonal 7.07
        (HitRule("center_half_diagonal", 1.0), 7.1, False),
        (HitRule("center_px", 3), 3, True),
        (HitRule("center_px", 3, strict=True), 3, False),
        (HitRule("center_max", 3), 7, True),
        (HitRule("center_max", 20), 19, True),
        (HitRule("center_max", 20), 21, False),
    ],
)
def test_hit_rules_on_a_shifted_square(rule, shift, hit):
    assert hits(rule, moved(shift, 0), A) is hit


def test_distance_in_millimetres_uses_each_axis_own_spacing():
    spacing = np.array([[0.1, 0.5]])  # row, column
    assert hits(HitRule("center_mm", 2.0), moved(4, 0), A, spacing)
    assert not hits(HitRule("center_mm", 2.0), moved(5, 0), A, spacing)
    assert hits(HitRule("center_mm", 2.0), moved(0, 20), A, spacing)


def test_millimetres_without_spacing_is_a_named_error():
    with pytest.raises(ValueError, match="pixel_spacing"):
        hits(HitRule("center_mm", 2.0), A, A, np.array([[np.nan, np.nan]]))


def test_unknown_rule_is_a_named_error():
    with pytest.raises(ValueError, match="'giou' is none of"):
        HitRule("giou")


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (("iou", 100.0), "IoU >= 100: no box can hit"),
        (("iom", 1.0, True), "IoM > 1: no box can hit"),
        (("iou", 0.0), "IoU >= 0: every box of the image hits"),
    ],
)
def test_overlap_thresholds_that_decide_nothing_are_errors(rule, message):
    with pytest.raises(ValueError, match=message):
        HitRule(*rule)
    assert HitRule("iou", 0.0, strict=True).threshold == 0
    assert HitRule("iou", 1.0).threshold == 1


def test_boxes_of_different_images_never_meet_and_chunks_change_nothing():
    rng = np.random.default_rng(0)
    det_image, gt_image = rng.integers(0, 9, 200), rng.integers(3, 12, 60)
    corner = rng.uniform(0, 20, (260, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 20, (260, 2))])
    args = (boxes[:200], det_image, boxes[200:], gt_image)
    whole = find_hits(HitRule("iou", 0.2), *args)
    parts = find_hits(HitRule("iou", 0.2), *args, chunk=7)
    assert (det_image[whole.detection] == gt_image[whole.lesion]).all()
    plain = {
        (d, g)
        for d in range(200)
        for g in range(60)
        if det_image[d] == gt_image[g] and pair_overlap("iou", boxes[[d]], boxes[[200 + g]])[0] >= 0.2
    }
    assert set(zip(whole.detection.tolist(), whole.lesion.tolist(), strict=True)) == plain
    for name in ("detection", "lesion", "quality"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(parts, name))


def test_rank_within_adjacent_groups():
    assert rank_within(np.array([3, 3, 5, 5, 5, 3])).tolist() == [0, 1, 0, 1, 2, 0]
    assert rank_within(np.array([])).tolist() == []


def greedy(pairs, scores, image, det, gt):
    return assign_greedy(pairs, order_of_detections(pairs, scores, det), image, order_of_boxes(gt))


def test_greedy_gives_the_best_free_lesion_to_the_best_score():
    # Detection 0 overlaps both lesions, better lesion 0; detection 1 hits lesion 0 only; detection 2 hits lesion 1.
    gt = np.array([[0, 0, 10, 10], [6, 0, 16, 10]], float)
    det = np.array([[1, 0, 11, 10], [0, 0, 10, 10], [6, 0, 16, 10]], float)
    image = np.zeros(3, int)
    pairs = find_hits(HitRule("iou", 0.3), det, image, gt, np.zeros(2, int))
    assert greedy(pairs, np.array([0.9, 0.8, 0.7]), image, det, gt).tolist() == [0, -1, 1]
    assert greedy(pairs, np.array([0.7, 0.8, 0.9]), image, det, gt).tolist() == [-1, 0, 1]


def test_greedy_equals_a_plain_loop_over_images():
    rng = np.random.default_rng(1)
    det_image, gt_image = rng.integers(0, 15, 300), rng.integers(0, 15, 60)
    corner = rng.uniform(0, 25, (360, 2))
    boxes = np.hstack([corner, corner + rng.uniform(5, 20, (360, 2))])
    scores = rng.permutation(300) / 300
    pairs = find_hits(HitRule("iou", 0.3), boxes[:300], det_image, boxes[300:], gt_image)
    expected = np.full(300, -1)
    taken = set()
    for d in np.argsort(-scores):
        options = [
            (pair_overlap("iou", boxes[[d]], boxes[[300 + g]])[0], g)
            for g in range(60)
            if gt_image[g] == det_image[d] and g not in taken
        ]
        best = max(options, default=(0, -1))
        if best[0] >= 0.3:
            expected[d] = best[1]
            taken.add(best[1])
    np.testing.assert_array_equal(greedy(pairs, scores, det_image, boxes[:300], boxes[300:]), expected)
