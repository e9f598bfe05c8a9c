"""Tables of cases by hand, in every format."""

import csv
import json

import numpy as np
import pytest

from mammo_d2.evaluation.files.case_files import case_tables, write_cases
from mammo_d2.evaluation.files.column_files import read_columns
from mammo_d2.evaluation.metrics.detection.case_outcomes import case_outcomes
from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from tests.evaluation.scenes import DETECTIONS, LESIONS, make


@pytest.fixture
def tables():
    data = make(LESIONS, DETECTIONS)
    return case_tables(data, {"malignant": (0, case_outcomes(data, FrocRule(), 0))}, [0.5, 0.75])


def test_csv_by_hand(tables, tmp_path):
    paths = write_cases(tmp_path, "cases_1", tables, "csv")
    assert [path.name for path in paths] == ["cases_1_lesions.csv", "cases_1_detections.csv", "cases_1_images.csv"]
    lesions, detections, images = ([*csv.reader(path.open())] for path in paths)
    assert lesions[0] == [
        "image_id",
        "class",
        "lesion",
        "x",
        "y",
        "width",
        "height",
        "found",
        "score",
        "detection",
        "iou",
        "ignored",
    ]
    assert lesions[1] == ["0", "malignant", "1", "0.0", "0.0", "10.0", "10.0", "1", "0.9", "1", "1.0", "0"]
    assert lesions[2] == ["0", "malignant", "2", "20.0", "0.0", "10.0", "10.0", "0", "", "0", "", "0"]
    assert [row[2:3] + row[7:] for row in detections[1:4]] == [
        ["1", "0.9", "hit", "1"], ["3", "0.6", "extra", "1"], ["2", "0.8", "false", "0"]
    ]  # fmt: skip
    assert images[0][4:] == ["lesions", "found", "false", "found@0.5", "false@0.5", "found@0.75", "false@0.75"]
    assert images[1] == ["0", "malignant", "1.0", "0.9", "2", "1", "1", "1", "1", "1", "1"]
    assert images[4] == ["3", "malignant", "0.0", "0.5", "0", "0", "2", "0", "1", "0", "0"]


def test_json_for_a_viewer(tables, tmp_path):
    (path,) = write_cases(tmp_path, "cases_1", tables, "json")
    first, *others = json.loads(path.read_text())
    assert (first["image_id"], first["class"], first["truth"]) == (0, "malignant", 1)
    assert first["lesions"][1] == {
        "bbox": [20, 0, 10, 10], "lesion": 2, "found": 0, "score": None, "detection": 0, "iou": None, "ignored": 0
    }  # fmt: skip
    assert [(d["detection"], d["outcome"], d["lesion"]) for d in first["detections"]] == [
        (1, "hit", 1), (3, "extra", 1), (2, "false", 0)
    ]  # fmt: skip
    assert len(others) == 3


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_columns_are_read_back(tables, tmp_path, kind):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    for path, (_, columns) in zip(write_cases(tmp_path, "c", tables, kind), tables.items(), strict=True):
        again = read_columns(path, list(columns))
        for name, values in columns.items():
            np.testing.assert_array_equal(again[name], values)
