"""The challenges' own numbers against their rules written out as plain loops."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.challenges.challenge_scores import RankingScore, dbtex_script
from mammo_d2.evaluation.metrics.detection.detection_ap import ApStatistic
from mammo_d2.evaluation.metrics.detection.froc import froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import summarize_froc
from mammo_d2.evaluation.metrics.detection.presets import PRESETS
from mammo_d2.evaluation.metrics.scores.levels import level_cases, max_box_scores
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule, ScoreStatistic
from tests.evaluation.metrics.detection.test_presets import centre
from tests.evaluation.scenes import make, random_data

DBTEX, PICAI = PRESETS["dbtex"], PRESETS["picai"]


def dbtex_loop(data):
    """Detection by detection, then threshold by threshold."""
    found, lesions = data.detections, data.lesions
    credited = []
    for box, image in zip(found.boxes, found.image, strict=True):
        near = []
        for g in np.flatnonzero(lesions.image == image):
            side = lesions.boxes[g, 2:] - lesions.boxes[g, :2]
            distance = np.linalg.norm(centre(box) - centre(lesions.boxes[g]))
            if distance <= max(np.hypot(*side) / 2, 100):
                near.append((distance, tuple(lesions.boxes[g]), g))
        credited.append(min(near)[2] if near else -1)
    credited = np.array(credited)
    thresholds = [found.scores.max() + 1, *found.scores[credited >= 0], found.scores.min() - 1]
    positive = np.isin(np.arange(len(data.images)), lesions.image)

    def sensitivities(chosen, images, rates):
        tpr, fps = [], []
        for t in sorted(thresholds, reverse=True):
            accepted = chosen & (found.scores >= t)
            tpr.append(len(set(credited[accepted & (credited >= 0)])) / len(lesions))
            fps.append((accepted & (credited < 0)).sum() / images)
            if fps[-1] > max(rates):
                break
        return [np.interp(rate, fps, tpr) for rate in rates]

    everywhere = np.ones(len(found), bool)
    at_positive = sensitivities(positive[found.image], positive.sum(), (1, 2, 3, 4))
    return [*sensitivities(everywhere, len(positive), (2,)), *at_positive, np.mean(at_positive)]


@pytest.mark.parametrize("seed", range(8))
def test_dbtex_as_the_loop(seed):
    data = random_data(seed, classes=1, levels=9 if seed % 2 else None)
    data.detections.boxes[:] *= 8
    data.lesions.boxes[:] *= 8
    numbers = dbtex_script(data, DBTEX.rule, 0)
    np.testing.assert_allclose(list(numbers.values()), dbtex_loop(data), rtol=0, atol=1e-12)
    assert next(iter(numbers)) == "sensitivity_at_2_fps_all"


def test_the_script_interpolates_over_false_positives():
    # 400 px apart. One image, hits at 0.9 and 0.1, between them 8 false ones: 8 per image at the second hit.
    data = make([(0, 0, 0), (0, 20, 0)], [(0, 0, 0.9), (0, 20, 0.1), *((0, 60 + k, 0.8 - k / 100) for k in range(8))])
    # The curve stays at 1/2 until the second hit; the script draws a line from (0, 1/2) to (8, 1).
    assert dbtex_script(data, DBTEX.rule, 0)["sensitivity_at_4_fps_positive"] == pytest.approx(0.75)
    points = summarize_froc(froc_events(data, DBTEX.rule, 0), DBTEX.rule).points
    assert points[-1].sensitivity == 0.5


def test_dbtex_without_lesions_or_detections():
    assert np.isnan(dbtex_script(make([], [(0, 0, 0.5)]), DBTEX.rule, 0)["mean_sensitivity_positive"])
    assert dbtex_script(make([(0, 0, 0)], []), DBTEX.rule, 0)["mean_sensitivity_positive"] == 0


@pytest.mark.parametrize("seed", range(4))
def test_ranking_score_is_the_mean_of_scikit_learns_numbers(seed):
    data = random_data(seed, images=30, classes=1)
    scores = max_box_scores(data.detections, 30, [0])
    cases = level_cases(data.images, data.images.truth[:, 0], scores, "image")
    events = froc_events(data, PICAI.rule, 0)
    ap = ApStatistic({"AP": [events]}, data.images.patient, PICAI.ap)
    score = estimate(RankingScore(ScoreStatistic(cases, ScoreRule()), ap), int(data.images.patient.max()) + 1)
    found = events.unit_scores[np.isfinite(events.unit_scores)]
    truth = np.r_[np.ones(len(found)), np.zeros(len(events.fp_scores))]
    # Lesions that are never found lower the recall that scikit-learn's area sums.
    part = len(found) / len(events.unit_scores)
    expected = average_precision_score(truth, np.r_[found, events.fp_scores]) * part
    auc = roc_auc_score(data.images.truth[:, 0], scores)
    assert score[0] == pytest.approx((auc + expected) / 2, abs=1e-12)
