"""Tables of a study: which metrics they show, and how numbers, intervals and names are written."""

import csv
import json
import math

import pytest

from mammo_d2.evaluation.metrics.bootstrap import Comparison, Interval
from mammo_d2.evaluation.study.study import MetricValue, PairReport, Study, SystemReport
from mammo_d2.evaluation.study.study_outputs import (
    console_text,
    headline_metrics,
    latex_table,
    write_metrics_csv,
    write_metrics_json,
)


def report(name, **metrics):
    shown = {"froc/malignant/sens@0.5": MetricValue(0.8125, Interval(0.75, 0.875)), **metrics}
    return SystemReport(name, shown, {}, {}, {}, {"images without patient_id": 3}, ["COCO AP by numpy"])


@pytest.fixture
def study():
    """Two systems, of which the second has no AP."""
    undefined = MetricValue(math.nan, reason="no lesion of this class")
    first = report("net_50%", **{"ap/malignant/AP": MetricValue(0.5), "patient/num_unknown": MetricValue(2.0)})
    second = report("other", **{"ap/malignant/AP": undefined})
    pair = PairReport("net_50%", "other", {"froc/malignant/sens@0.5": Comparison(0.0625, -0.25, 0.375, 0.5)}, {})
    return Study([first, second], [pair], ["preset default"])


def test_headline_metrics(study):
    assert headline_metrics(study) == ["froc/malignant/sens@0.5", "ap/malignant/AP"]


def test_console(study):
    lines = [" ".join(line.split()) for line in console_text(study).splitlines()]
    assert lines[:2] == ["preset default", "COCO AP by numpy"]
    assert "froc/malignant/sens@0.5 0.812 (0.750, 0.875) 0.812 (0.750, 0.875)" in lines
    assert "ap/malignant/AP 0.500 n/a" in lines
    assert "froc/malignant/sens@0.5 +0.062 (-0.250, +0.375) 0.5" in lines
    assert "other: ap/malignant/AP: no lesion of this class" in lines
    assert "other: images without patient_id: 3" in lines


def test_latex_escapes_names_and_writes_undefined_numbers_as_dashes(study):
    rows = [line for line in latex_table(study).splitlines() if line.endswith("\\\\")]
    assert rows[0] == "metric & net\\_50\\% & other \\\\"
    assert rows[1].startswith("froc/malignant/sens@0.5 & 0.812 {\\small(0.750--0.875)}")
    assert rows[2] == "ap/malignant/AP & 0.500 & -- \\\\"


def test_files_have_every_metric(study, tmp_path):
    content = json.loads(write_metrics_json(study, tmp_path / "metrics.json").read_text())
    metrics = content["systems"]["other"]["metrics"]["ap/malignant/AP"]
    assert metrics == {"value": None, "low": None, "high": None, "reason": "no lesion of this class"}
    assert content["comparisons"][0]["bootstrap"]["froc/malignant/sens@0.5"]["difference"] == 0.0625
    with write_metrics_csv(study, tmp_path / "metrics.csv").open() as stream:
        rows = {(row["system"], row["metric"]): row for row in csv.DictReader(stream)}
    assert rows["net_50%", "patient/num_unknown"]["value"] == "2.0"
    assert (rows["other", "ap/malignant/AP"]["value"], rows["other", "ap/malignant/AP"]["reason"]) == (
        "",
        "no lesion of this class",
    )
