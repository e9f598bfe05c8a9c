"""Calibration of a study: a scaling from other patients, the table and the files."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.bootstrap import estimate
from mammo_d2.evaluation.metrics.calibration.calibration_error import (
    CALIBRATION_KEYS,
    CalibrationStatistic,
    brier_score,
)
from mammo_d2.evaluation.metrics.calibration.recalibration import Recalibration
from mammo_d2.evaluation.statistics.calibration_report import (
    calibration_report,
    calibration_table,
    calibration_text,
    write_calibration,
)


def test_both_scores(systems, resampling, tmp_path):
    cases = systems[1].cases
    scaling = Recalibration("platt", 0.8, -1.0)
    report = calibration_report(cases, resampling, scaling, 5)
    assert list(report.values) == ["as given", "platt"]
    assert report.values["platt"]["brier"] == pytest.approx(brier_score(cases.truth, scaling.apply(cases.scores)))
    expected = estimate(CalibrationStatistic(cases.truth, cases.scores, cases.patient, 5), resampling.patients)
    assert list(report.values["as given"].values()) == pytest.approx(list(expected))
    interval = report.intervals["platt"]["brier"]
    assert interval.low < report.values["platt"]["brier"] < interval.high
    # Replicates of a calibration error lie above it: no interval is better than a wrong one.
    assert np.isnan(report.intervals["platt"]["ece"].low)
    header, rows = calibration_table(report)
    assert header == ["", "as given", "platt"]
    assert [row[0] for row in rows] == list(CALIBRATION_KEYS)
    assert "sigmoid(0.8 logit(p) -1)" in calibration_text(report)
    paths = write_calibration(report, tmp_path, ["png", "pdf"])
    assert [path.name for path in paths][-2:] == ["reliability.png", "reliability.pdf"]
    content = json.loads((tmp_path / "calibration.json").read_text())
    assert content["recalibration"] == {"kind": "platt", "slope": 0.8, "intercept": -1.0}
    assert sum(content["scores"]["platt"]["diagram"]["count"]) == 30
