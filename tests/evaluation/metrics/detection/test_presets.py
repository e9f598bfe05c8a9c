"""Every preset against its rule written out as plain loops, and what each says of degenerate detectors."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.froc import froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, summarize_froc
from mammo_d2.evaluation.metrics.detection.matching import pair_overlap
from mammo_d2.evaluation.metrics.detection.presets import PRESETS, get_preset
from tests.evaluation.scenes import make, random_data

SEEDS = range(6)


def by_image(data, label=0):
    """Per image: boxes and scores of detections, boxes and ignore flags of lesions, of one class."""
    for image in range(len(data.images)):
        d = data.detections.take((data.detections.image == image) & (data.detections.label == label))
        g = data.lesions.take((data.lesions.image == image) & (data.lesions.label == label))
        yield d.boxes, d.scores, g.boxes, g.ignore


def centre(box):
    return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2])


def points_of(fp, tp, lesions, images):
    """Operating points at every distinct score, accepting nothing first."""
    thresholds = sorted({*fp, *tp}, reverse=True)
    x = [0.0] + [sum(s >= t for s in fp) / images for t in thresholds]
    y = [0.0] + [sum(s >= t for s in tp) / lesions for t in thresholds]
    return np.array(x), np.array(y)


def linear(x, y, rates):
    return np.interp(rates, x, y)


def steps(x, y, rates):
    return [y[x <= rate][-1] for rate in rates]


def luna16(data):
    fp, tp, lesions = [], [], 0
    for boxes, scores, gts, ignore in by_image(data):
        left = set(range(len(boxes)))
        for gt, ignored in zip(gts, ignore, strict=True):
            radius = max(gt[2] - gt[0], gt[3] - gt[1]) / 2
            near = [d for d in range(len(boxes)) if np.sum((centre(boxes[d]) - centre(gt)) ** 2) < radius**2]
            left -= set(near)
            lesions += not ignored
            if near and not ignored:
                tp.append(max(scores[d] for d in near))
        fp += [scores[d] for d in left]
    return linear(*points_of(fp, tp, lesions, len(data.images)), PRESETS["luna16"].rule.rates)


def camelyon(data):
    fp, tp, lesions = [], [], 0
    for boxes, scores, gts, _ in by_image(data):
        left = set(range(len(boxes)))
        for gt in gts:
            inside = [d for d, b in enumerate(boxes) if (gt[:2] <= centre(b)).all() and (centre(b) <= gt[2:]).all()]
            left -= set(inside)
            lesions += 1
            tp += [max(scores[d] for d in inside)] if inside else []
        fp += [scores[d] for d in left]
    return linear(*points_of(fp, tp, lesions, len(data.images)), PRESETS["camelyon"].rule.rates)


def dbtex(data, only_positive):
    fp, tp, lesions, images = [], [], 0, 0
    for boxes, scores, gts, _ in by_image(data):
        images += bool(len(gts)) or not only_positive
        best = {}
        for box, score in zip(boxes, scores, strict=True):
            hits = []
            for g, gt in enumerate(gts):
                distance = np.linalg.norm(centre(box) - centre(gt))
                if distance <= max(np.hypot(gt[2] - gt[0], gt[3] - gt[1]) / 2, 100):
                    hits.append((distance, tuple(gt), g))
            if hits:
                g = min(hits)[2]
                best[g] = max(score, best.get(g, 0))
            elif len(gts) or not only_positive:
                fp.append(score)
        lesions += len(gts)
        tp += best.values()
    rule = PRESETS["dbtex" if only_positive else "dbtex_all"].rule
    return linear(*points_of(fp, tp, lesions, images), rule.rates)


def nndetection(data):
    fp, tp, lesions = [], [], 0
    for label in range(len(data.images.classes)):
        for boxes, scores, gts, _ in by_image(data, label):
            taken = set()
            lesions += len(gts)
            for d in np.argsort(-scores):
                overlaps = [
                    (pair_overlap("iou", boxes[[d]], gts[[g]])[0], g) for g in range(len(gts)) if g not in taken
                ]
                overlap, g = max(overlaps, default=(0, -1))
                if overlap >= 0.1:
                    taken.add(g)
                    tp.append(scores[d])
                else:
                    fp.append(scores[d])
    return linear(*points_of(fp, tp, lesions, len(data.images)), PRESETS["nndetection"].rule.rates)


def picai(data):
    from scipy.optimize import linear_sum_assignment

    fp, tp, lesions = [], [], 0
    for boxes, scores, gts, _ in by_image(data):
        table = np.array([[pair_overlap("iou", d[None], g[None])[0] for d in boxes] for g in gts])
        table = table.reshape(len(gts), len(boxes))
        table[table < 0.1] = 0
        table[table > 0] += 1
        rows, columns = linear_sum_assignment(table, maximize=True)
        tp += [scores[d] for g, d in zip(rows, columns, strict=True) if table[g, d] > 0]
        fp += [scores[d] for d in range(len(boxes)) if not (table[:, d] > 0).any()]
        lesions += len(gts)
    return steps(*points_of(fp, tp, lesions, len(data.images)), PRESETS["picai"].rule.rates)


def sensitivities(data, name, label=0):
    rule = PRESETS[name].rule
    return [point.sensitivity for point in summarize_froc(froc_events(data, rule, label), rule).points]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("name", "plain"), [("camelyon", camelyon), ("picai", picai)])
def test_one_class_rules(seed, name, plain):
    data = random_data(seed, classes=1, levels=9)
    np.testing.assert_allclose(sensitivities(data, name), plain(data), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_luna16_with_excluded_findings(seed):
    data = random_data(seed, classes=1, levels=9)
    data.lesions.ignore[:] = np.random.default_rng(seed).random(len(data.lesions)) < 0.25
    np.testing.assert_allclose(sensitivities(data, "luna16"), luna16(data), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_dbtex_primary_and_secondary(seed):
    # Spread out, so that the 100 pixels matter.
    data = random_data(seed, classes=1)
    data.detections.boxes[:] *= 8
    data.lesions.boxes[:] *= 8
    np.testing.assert_allclose(sensitivities(data, "dbtex"), dbtex(data, True), rtol=0, atol=1e-12)
    np.testing.assert_allclose(sensitivities(data, "dbtex_all"), dbtex(data, False), rtol=0, atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_nndetection_pools_the_classes_after_matching_within_each(seed):
    data = random_data(seed, classes=2)
    np.testing.assert_allclose(sensitivities(data, "nndetection", None), nndetection(data), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", PRESETS)
def test_a_perfect_detector_scores_one_and_a_silent_one_zero(name):
    rule = PRESETS[name].rule
    lesions = [(0, 0, 0), (1, 2, 0)]
    perfect = make(lesions, [(0, 0, 0.5), (1, 2, 0.5)])
    assert summarize_froc(froc_events(perfect, rule, 0), rule).mean_sensitivity == 1
    silent = make(lesions, [])
    assert summarize_froc(froc_events(silent, rule, 0), rule).mean_sensitivity == 0
    none = summarize_froc(froc_events(make([], [(0, 0, 0.5)]), rule, 0), rule)
    assert np.isnan(none.mean_sensitivity)
    assert none.reason


def test_presets_differ_where_their_rules_do():
    # One lesion with a hit, a worse second hit, and a small box inside it.
    data = make([(0, 0, 0)], [(0, 0, 0.9), (0, 0, 0.8)])
    last = {name: froc_curve(froc_events(data, preset.rule, 0)).fp_per_image[-1] for name, preset in PRESETS.items()}
    assert last["coco"] == last["voc07"] == last["nndetection"] == 0.25
    assert last["luna16"] == last["camelyon"] == last["picai"] == last["dbtex"] == last["default"] == 0


def test_every_preset_prints_its_options_and_names_its_source():
    for name, preset in PRESETS.items():
        assert preset.name == name
        assert f"preset {name}" in str(preset)
        assert "AP:" in str(preset)
        assert len(preset.source) > 40
    with pytest.raises(ValueError, match="'lidc' is none of default, coco"):
        get_preset("lidc")
