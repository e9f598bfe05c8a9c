"""AFROC areas of detections equal those of the same marks as a reader's, and replicates equal copied data."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
from mammo_d2.evaluation.metrics.readers.afroc_statistic import AfrocStatistic
from tests.evaluation.scenes import DETECTIONS, LESIONS, make


def test_by_hand():
    # Lesions found at 0.9 and 0.5, one never; normal images 2 and 3 with highest false marks 0.7 and 0.5.
    data = make(LESIONS, DETECTIONS)
    statistic = AfrocStatistic(froc_events(data, FrocRule(), 0), data.images.patient)
    afroc, wafroc = estimate(statistic, 2)
    assert afroc == pytest.approx((2 + 0.5 + 0) / 6)  # 0.9 beats both; 0.5 ties with one; the lost one beats none
    assert wafroc == pytest.approx(((2 + 0) / 2 + 0.5) / 4)


def test_weights_are_copies():
    data = make(LESIONS, DETECTIONS, per_patient=1)
    statistic = AfrocStatistic(froc_events(data, FrocRule(), 0), data.images.patient)
    twice = make(
        [*LESIONS, (4, 0, 0)],
        [*DETECTIONS, (4, 0, 0.5), (5, 0, 0.7)],
        images=6,
        per_patient=1,
    )  # image 4 copies image 1, image 5 copies image 2
    expected = estimate(AfrocStatistic(froc_events(twice, FrocRule(), 0), twice.images.patient), 6)
    found = statistic.replicate(np.array([[1], [2], [2], [1]], np.uint16))[:, 0]
    assert found == pytest.approx(expected, abs=1e-15)


def test_a_lesion_and_an_image_without_marks_tie():
    data = make([(0, 0, 0)], [], images=2, per_patient=1)
    assert estimate(AfrocStatistic(froc_events(data, FrocRule(), 0), data.images.patient), 2).tolist() == [0.5, 0.5]
