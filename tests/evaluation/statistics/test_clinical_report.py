"""Clinical numbers of a study: one system, two systems, and the NRI's warning."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.clinical.reclassification import net_reclassification
from mammo_d2.evaluation.statistics.clinical_report import (
    ClinicalOptions,
    clinical_report,
    clinical_text,
    write_clinical,
)


def test_one_system(systems, resampling):
    report = clinical_report(systems[:1], resampling, ClinicalOptions((0.9,), (0.1, 0.3)))
    values = report.values["old"]
    cases = systems[0].cases
    threshold = np.sort(cases.scores[cases.truth == 1])[1]  # 9 of 10
    assert values["recall_rate@sens0.9"] == pytest.approx((cases.scores >= threshold).mean())
    assert values["cancers_per_1000@sens0.9"] == pytest.approx(300)
    assert report.differences == {}
    assert "NRI" not in clinical_text(report)


def test_two_systems(systems, resampling, tmp_path):
    report = clinical_report(systems, resampling, ClinicalOptions((0.8,), (0.05, 0.3), 0.01, (0.3,)))
    key = "recall_rate@sens0.8"
    assert report.differences[key].difference == report.values["new"][key] - report.values["old"][key]
    assert report.values["old"]["cancers_per_1000@sens0.8"] == pytest.approx(8)
    old, new = (system.cases for system in systems)
    assert report.nri.nri == net_reclassification(old.truth, old.scores, new.scores, (0.3,)).nri
    assert "WARNING: Do not rest a claim on the NRI" in clinical_text(report)
    names = [path.name for path in write_clinical(report, tmp_path, ["svg"])]
    assert names == ["clinical.json", "clinical.md", "clinical.tex", "decision_curve.svg"]
    content = json.loads((tmp_path / "clinical.json").read_text())
    assert content["nri"]["warning"].startswith("Do not rest")
    assert np.sum(content["nri"]["table_events"]) == 10


def test_reclassification_takes_two(systems, resampling):
    with pytest.raises(ValueError, match="--cuts: reclassification compares two systems"):
        clinical_report(systems[:1], resampling, ClinicalOptions(cuts=()))
