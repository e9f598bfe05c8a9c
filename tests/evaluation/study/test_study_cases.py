"""Counts and cases of several systems in a folder."""

import csv

import numpy as np

from mammo_d2.evaluation.files.coco_files import GroundTruth
from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.study.study import System
from mammo_d2.evaluation.study.study_cases import write_study_cases
from tests.evaluation.scenes import DETECTIONS, LESIONS, make


def test_counts_of_every_system_with_detections(tmp_path):
    data = make(LESIONS, DETECTIONS)
    truth = GroundTruth("truth.json", data.images, data.lesions, {1: 0}, (), {"malignant": 0}, {})
    fewer = data.detections.take(data.detections.scores > 0.5)
    systems = [
        System("scores", image_scores=np.zeros((4, 1))), System("all", data.detections), System("fewer", fewer)
    ]  # fmt: skip
    paths = write_study_cases(truth, systems, FrocRule(), tmp_path, "csv", [0.5], [0.25])
    assert sorted(path.name for path in paths) == sorted(path.name for path in tmp_path.iterdir())
    assert {path.name for path in paths} >= {"counts.csv", "cases_2_images.csv", "cases_3_lesions.csv"}
    rows = list(csv.DictReader((tmp_path / "counts.csv").open()))
    keys = ("system", "rate", "threshold", "found", "missed", "false_positives", "sensitivity")
    assert [tuple(row[key] for key in keys) for row in rows] == [
        ("all", "", "0.5", "2", "1", "3", str(2 / 3)),
        ("all", "0.25", "0.8", "1", "2", "1", str(1 / 3)),
        ("fewer", "", "0.5", "1", "2", "2", str(1 / 3)),
        ("fewer", "0.25", "0.8", "1", "2", "1", str(1 / 3)),
    ]
    assert write_study_cases(truth, systems[:1], FrocRule(), tmp_path, "") == []
