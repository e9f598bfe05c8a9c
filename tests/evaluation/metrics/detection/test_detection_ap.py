"""AP in its definitions by hand, against COCO's and VOC's written-out loops, and as weighted replicates."""

from dataclasses import replace

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.coco_map import coco_average_precision
from mammo_d2.evaluation.metrics.detection.detection_ap import ApStatistic, ap_events, detection_average_precision
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.matching import HitRule, pair_overlap
from mammo_d2.evaluation.metrics.detection.presets import PRESETS
from tests.evaluation.scenes import copied, make, random_data

GREEDY = PRESETS["coco"].rule


def test_definitions_by_hand():
    # hit, false, false, hit; two of three lesions found: precision 1 at recall 1/3, 0.5 at recall 2/3.
    data = make([(0, 0, 0), (1, 0, 0), (1, 1, 0)], [(0, 0, 0.9), (2, 0, 0.8), (3, 0, 0.7), (1, 0, 0.6)])
    events = froc_events(data, GREEDY, 0)
    assert detection_average_precision(events, "area") == pytest.approx(1 / 3 + 0.5 / 3, abs=1e-15)
    assert detection_average_precision(events, "sum") == pytest.approx(1 / 3 + 0.5 / 3, abs=1e-15)
    assert detection_average_precision(events, "voc11") == pytest.approx((4 * 1 + 3 * 0.5) / 11, abs=1e-15)
    assert detection_average_precision(events, "coco101") == pytest.approx((34 * 1 + 33 * 0.5) / 101, abs=1e-15)


def test_monotone_precision_is_what_separates_area_from_sum():
    # false, hit, hit: precision 1/2 then 2/3.
    data = make([(0, 0, 0), (1, 0, 0)], [(2, 0, 0.9), (0, 0, 0.8), (1, 0, 0.7)])
    events = froc_events(data, GREEDY, 0)
    assert detection_average_precision(events, "area") == pytest.approx(2 / 3, abs=1e-15)
    assert detection_average_precision(events, "sum") == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-15)


def test_a_tie_between_hit_and_false_positive_is_one_group():
    data = make([(0, 0, 0)], [(0, 0, 0.5), (1, 0, 0.5)])
    assert detection_average_precision(froc_events(data, GREEDY, 0), "area") == 0.5


def test_degenerate_cases():
    assert detection_average_precision(froc_events(make([(0, 0, 0)], []), GREEDY, 0), "coco101") == 0
    assert np.isnan(detection_average_precision(froc_events(make([], [(0, 0, 0.5)]), GREEDY, 0), "coco101"))
    assert detection_average_precision(froc_events(make([(0, 0, 0)], [(0, 0, 0.5)]), GREEDY, 0), "voc11") == 1
    with pytest.raises(ValueError, match="'trapz' is none of"):
        detection_average_precision(froc_events(make([(0, 0, 0)], [(0, 0, 0.5)]), GREEDY, 0), "trapz")


@pytest.mark.parametrize("seed", range(6))
def test_coco_preset_is_coco_ap_where_there_are_no_ties(seed):
    data = random_data(seed, images=25, crowd=False)
    preset = PRESETS["coco"]
    reference = coco_average_precision(data).numbers
    for label, name in enumerate(data.images.classes):
        values = [
            detection_average_precision(froc_events(data, preset.ap_rule_at(t), label), preset.ap)
            for t in preset.thresholds
        ]
        assert np.mean(values) == pytest.approx(reference[f"{name}/AP"], abs=1e-12)
        assert values[0] == pytest.approx(reference[f"{name}/AP50"], abs=1e-12)


def voc_loop(data, label, years):
    """PASCAL VOC's evaluation, detection by detection."""
    lesions = data.lesions.take(data.lesions.label == label)
    found = data.detections.take(data.detections.label == label)
    taken = np.zeros(len(lesions), bool)
    tp, fp = [], []
    for d in np.argsort(-found.scores, kind="stable"):
        rows = np.flatnonzero(lesions.image == found.image[d])
        overlaps = [pair_overlap("iou", found.boxes[[d]], lesions.boxes[[g]], 1.0)[0] for g in rows]
        best = int(np.argmax(overlaps)) if len(rows) else -1
        if best >= 0 and overlaps[best] > 0.5:
            g = rows[best]
            if lesions.ignore[g]:
                continue
            tp.append(0 if taken[g] else 1)
            fp.append(1 if taken[g] else 0)
            taken[g] = True
        else:
            tp.append(0)
            fp.append(1)
    tp, fp = np.cumsum(tp), np.cumsum(fp)
    recall, precision = tp / (~lesions.ignore).sum(), tp / np.maximum(tp + fp, 1)
    if years == "voc07":
        return np.mean([max(precision[recall >= k / 10], default=0) for k in range(11)])
    recall, precision = np.r_[0, recall, 1], np.r_[0, precision, 0]
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return np.sum(np.diff(recall) * precision[1:])


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["voc07", "voc10"])
def test_voc_presets_equal_the_written_out_rule(seed, name):
    data = random_data(seed, images=20)
    rng = np.random.default_rng(seed)
    data.lesions.ignore[:] = rng.random(len(data.lesions)) < 0.2
    for label in range(2):
        events = froc_events(data, PRESETS[name].rule, label)
        assert detection_average_precision(events, PRESETS[name].ap) == pytest.approx(
            voc_loop(data, label, name), abs=1e-12
        )


@pytest.mark.parametrize("interpolation", ["coco101", "voc11", "area", "sum"])
def test_weighted_replicates_equal_copies_to_the_last_bit(interpolation):
    data = random_data(3, images=18, levels=9)
    rule = FrocRule(hit=HitRule("iou", 0.4), matching="greedy", extra_hits="fp")
    groups = {"c0": [froc_events(data, rule, 0)], "mean": [froc_events(data, rule, k) for k in range(2)]}
    patients = int(data.images.patient.max()) + 1
    weights = np.random.default_rng(0).integers(0, 4, (patients, 25)).astype(np.uint16)
    values = ApStatistic(groups, data.images.patient, interpolation).replicate(weights)
    for column in range(weights.shape[1]):
        copy = copied(data, weights[data.images.patient, column])
        one = [detection_average_precision(froc_events(copy, rule, k), interpolation) for k in range(2)]
        np.testing.assert_array_equal(values[0, column], one[0])
        np.testing.assert_array_equal(values[1, column], (one[0] + one[1]) / 2)


@pytest.mark.parametrize("name", ["default", "voc10", "picai", "dbtex", "nndetection", "luna16"])
@pytest.mark.parametrize("label", [0, None])
def test_one_list_for_all_thresholds_changes_no_bit(name, label):
    data = random_data(5, images=18, crowd=True, levels=9)
    rule = PRESETS[name].ap_rule
    hits = (
        [rule.hit] if rule.hit.kind.startswith("center") else [replace(rule.hit, threshold=t) for t in (0.5, 0.3, 0.7)]
    )
    rules = [replace(rule, hit=hit) for hit in hits]
    apart = [froc_events(data, rule, label) for rule in rules]
    together = ap_events(data, rules, label)
    patients = int(data.images.patient.max()) + 1
    weights = np.random.default_rng(0).integers(0, 4, (patients, 25)).astype(np.uint16)
    values = [
        ApStatistic({str(n): [e] for n, e in enumerate(sets)}, data.images.patient, "area").replicate(weights)
        for sets in (apart, together)
    ]
    np.testing.assert_array_equal(*values)


def test_rules_of_one_average_differ_in_the_threshold_only():
    data = make([(0, 0, 0)], [(0, 0, 0.5)])
    with pytest.raises(ValueError, match="may differ in the hit threshold only"):
        ap_events(data, [GREEDY, replace(GREEDY, matching="any")], 0)
