"""Area under the FROC curve: by hand, against a fine sum of the curve, and replicates against copied data."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.comparison.froc_area import FrocAreaStatistic
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at
from tests.evaluation.scenes import DETECTIONS, LESIONS, make, random_data


def test_by_hand():
    # Lesions at 0.9 (no false mark above), 0.5 (0.8, 0.7 above, 0.5 tied: 3 of 4 images) and never.
    data = make(LESIONS, DETECTIONS)
    events = froc_events(data, FrocRule(), 0)
    assert estimate(FrocAreaStatistic(events, data.images.patient, 1.0), 2)[0] == pytest.approx((1 + 0.25 + 0) / 3)
    assert estimate(FrocAreaStatistic(events, data.images.patient, 0.5), 2)[0] == pytest.approx(1 / 3)


@pytest.mark.parametrize("seed", range(3))
def test_against_the_curve(seed):
    data = random_data(seed, images=20)
    events = froc_events(data, FrocRule(), 0)
    grid = (np.arange(4000) + 0.5) / 4000 * 2
    points = sensitivity_at(froc_curve(events), tuple(grid), "step", "hold")
    expected = np.mean([point.sensitivity for point in points])
    patients = int(data.images.patient.max()) + 1
    area = estimate(FrocAreaStatistic(events, data.images.patient, 2.0), patients)[0]
    assert area == pytest.approx(expected, abs=1e-3)


def test_weights_are_copies():
    data = make(LESIONS, DETECTIONS, per_patient=1)
    twice = make([*LESIONS, (4, 0, 0)], [*DETECTIONS, (4, 0, 0.5), (5, 0, 0.7)], images=6, per_patient=1)
    expected = estimate(FrocAreaStatistic(froc_events(twice, FrocRule(), 0), twice.images.patient), 6)
    statistic = FrocAreaStatistic(froc_events(data, FrocRule(), 0), data.images.patient)
    assert statistic.replicate(np.array([[1], [2], [2], [1]], np.uint16))[:, 0] == pytest.approx(expected)
    assert statistic.keys == ["froc_area@1"]


def test_undefined_and_errors():
    data = make([], [(0, 0, 0.5)])
    events = froc_events(data, FrocRule(), 0)
    assert np.isnan(estimate(FrocAreaStatistic(events, data.images.patient), 2)[0])
    with pytest.raises(ValueError, match="must be above 0"):
        FrocAreaStatistic(events, data.images.patient, 0)
