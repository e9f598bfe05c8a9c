"""Hungarian assignment against trying every assignment."""

from itertools import permutations

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.hungarian import assign_hungarian
from mammo_d2.evaluation.metrics.detection.matching import HitPairs, HitRule, find_hits
from tests.evaluation.scenes import random_boxes


def test_most_matches_come_before_overlap():
    # Detection 0 hits lesion 0 (0.9) and lesion 1 (0.2); detection 1 hits lesion 0 (0.5) only: both are matched.
    pairs = HitPairs(np.array([0, 0, 1]), np.array([0, 1, 0]), np.array([0.9, 0.2, 0.5]))
    assert assign_hungarian(pairs, 2, np.zeros(2, int)).tolist() == [1, 0]
    assert assign_hungarian(HitPairs(*[np.zeros(0, int)] * 3), 2, np.zeros(2, int)).tolist() == [-1, -1]


@pytest.mark.parametrize("seed", range(20))
def test_best_of_all_assignments(seed):
    rng = np.random.default_rng(seed)
    det, gt = random_boxes(rng, 8), random_boxes(rng, 4)
    image, gt_image = np.repeat([0, 1], 4), np.repeat([0, 1], 2)
    pairs = find_hits(HitRule("iou", 0.1), det, image, gt, gt_image)
    table = np.zeros((8, 4))
    table[pairs.detection, pairs.lesion] = pairs.quality
    got = assign_hungarian(pairs, 8, image)
    for one in range(2):
        part = table[4 * one : 4 * one + 4, 2 * one : 2 * one + 2]
        best = max(
            (sum(part[d, g] > 0 for g, d in enumerate(p)), sum(part[d, g] for g, d in enumerate(p)))
            for p in permutations(range(4), 2)
        )
        mine = [(d, got[d] - 2 * one) for d in range(4 * one, 4 * one + 4) if got[d] >= 0]
        values = [part[d - 4 * one, g] for d, g in mine]
        assert (len(values), pytest.approx(sum(values))) == best
        assert len({g for _, g in mine}) == len(mine)
