"""Screening numbers by hand; detection rates against published Poisson limits."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.clinical.screening_rates import (
    SCREENING_KEYS,
    ScreeningStatistic,
    detection_rate_interval,
)

TRUTH = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
SCORES = np.array([0.9, 0.8, 0.5, 0.1, 0.85, 0.6, 0.4, 0.3, 0.2, 0.0])


def numbers(sensitivity, prevalence=None):
    statistic = ScreeningStatistic(TRUTH, SCORES, np.arange(10), (sensitivity,), prevalence)
    assert statistic.keys == [f"{key}@sens{sensitivity:g}" for key in SCREENING_KEYS]
    return dict(zip(SCREENING_KEYS, estimate(statistic, 10), strict=True))


def test_by_hand():
    # 75 %: threshold 0.5, three cancers and two false recalls of ten.
    assert numbers(0.75) == pytest.approx(
        {"recall_rate": 0.5, "cancers_per_1000": 300, "recalled_per_cancer": 5 / 3, "ppv": 0.6, "specificity": 4 / 6}
    )


def test_a_programme_with_another_prevalence():
    found = numbers(0.75, 0.006)
    recall = 0.006 * 0.75 + 0.994 / 3
    assert found["recall_rate"] == pytest.approx(recall)
    assert found["cancers_per_1000"] == pytest.approx(4.5)
    assert found["ppv"] == pytest.approx(0.0045 / recall)


def test_rounding_of_the_sensitivity():
    statistic = ScreeningStatistic(np.array([1] * 5 + [0]), np.array([5, 4, 3, 2, 1, 0.0]), np.arange(6), (0.8,), 0.5)
    assert estimate(statistic, 6)[1] == pytest.approx(400)  # 4 of 5, whatever 0.8 * 5 rounds to


def test_weights_are_copies():
    weights = np.array([1, 2, 1, 1, 0, 1, 2, 1, 1, 1])[:, None]
    rows = np.repeat(np.arange(10), weights[:, 0])
    copied = ScreeningStatistic(TRUTH[rows], SCORES[rows], np.arange(len(rows)))
    found = ScreeningStatistic(TRUTH, SCORES, np.arange(10)).replicate(weights)[:, 0]
    assert found == pytest.approx(estimate(copied, len(rows)))
    assert np.isnan(ScreeningStatistic(TRUTH, SCORES, np.arange(10)).replicate(TRUTH[:, None])).all()


def test_detection_rates():
    """Exact Poisson limits of tables: 0 events 0 to 3.689, 10 events 4.795 to 18.390."""
    assert detection_rate_interval(0, 1000) == pytest.approx((0, 3.6889), abs=1e-4)
    assert detection_rate_interval(10, 2000) == pytest.approx((4.7954 / 2, 18.3904 / 2), abs=1e-4)
    assert np.isnan(detection_rate_interval(0, 0)[0])


def test_errors():
    with pytest.raises(ValueError, match="sensitivity 0 must"):
        ScreeningStatistic(TRUTH, SCORES, np.arange(10), (0,))
    with pytest.raises(ValueError, match="prevalence 6 must"):
        ScreeningStatistic(TRUTH, SCORES, np.arange(10), prevalence=6)
