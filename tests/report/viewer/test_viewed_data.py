"""The viewer's JSON: truth, roles of boxes, thresholds, what is in the file and what only counts."""

from dataclasses import replace

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.report.viewer.viewed_data import SystemOutput, chest_side, embedded_rows, rows_of_images, viewer_data
from tests.report.viewer.scenes import make_dataset, table

HIT, NEITHER, FALSE = 0, 1, 2


@pytest.fixture
def dataset(tmp_path):
    return make_dataset(tmp_path)


def test_images_with_their_truth(dataset):
    data = viewer_data([dataset], 100)
    a, b, c, d = data["images"]
    assert (a["id"], a["patient"], a["side"], a["view"], a["density"]) == ("a", "P1", "L", "CC", "c")
    assert (a["file"], a["w"], a["h"], a["chest"], a["breast"]) == ("a.png", 60, 80, "left", [0, 0, 40, 80])
    assert b["chest"] == "right"
    assert [image["truth"] for image in (a, b, c, d)] == [[0, 1], [0, 0], [1, 1], [None, 1]]
    assert c["lesions"] == [[5, 5, 10, 10, 0, ""], [30, 50, 10, 20, 1, "crowd"]]
    assert [image["exam"] for image in (a, b, c, d)] == [0, 0, 0, 1]
    assert [image["px"] for image in (a, b, c, d)] == [0, 1, 2, 3]
    assert data["note"] == ""
    assert data["colors"] == ["rgb(86,180,233)", "rgb(255,150,30)"]


def test_boxes_have_the_roles_of_the_curve(dataset):
    data = viewer_data([dataset], 100)
    a, b, c, d = (image["results"][0] for image in data["images"])
    assert (a["boxes"], a["scores"], a["labels"]) == ([[10, 20, 20, 20], [11, 20, 20, 20]], [0.9, 0.5], [1, 1])
    assert (a["roles"], a["found"], a["foundPooled"]) == ([HIT, NEITHER], [0.9], [0.9])
    assert (b["roles"], b["pooled"]) == ([FALSE], [FALSE])
    # By falling score: the box in the crowd region, then the benign hit.
    assert (c["scores"], c["labels"], c["roles"]) == ([0.7, 0.4], [1, 0], [NEITHER, HIT])
    assert (c["found"], c["foundPooled"]) == ([0.4, None], [0.4, None])
    assert d["roles"] == [FALSE]
    assert [r["image"] for r in (a, c)] == [[0.1, 0.9], [0.6, None]]
    assert "image" not in data["images"][0]["results"][1]
    first, second = data["systems"]
    assert (first["hasBoxes"], first["hasScores"], second["hasScores"], first["hasGiven"]) == (True, True, False, False)
    # Images of known truth: of benign a, b, c; of malignant all; together all.
    assert first["counted"] == [[3, 4, 4]]
    # At one false positive per image: the last box that decides something.
    assert first["thresholds"] == [0.4, 0.6, 0.4]


def test_rates_of_recall_units_and_several_data_sets(dataset):
    patients = replace(dataset, rule=FrocRule(recall_unit="patient"))
    other = replace(patients, name="other", systems=patients.systems[1:])
    data = viewer_data([patients, other], 100)
    assert [image["unit"] for image in data["images"]] == ["0/0"] * 3 + ["0/1"] + ["1/0"] * 3 + ["1/1"]
    assert [image["exam"] for image in data["images"]] == [0, 0, 0, 1, 2, 2, 2, 3]
    assert [image["dataset"] for image in data["images"]] == [0] * 4 + [1] * 4
    assert data["datasets"] == ["toy_test", "other"]
    assert [system["counted"] for system in data["systems"]] == [[[3, 4, 4], [0, 0, 0]], [[3, 4, 4], [3, 4, 4]]]
    assert data["images"][4]["results"][0] is None
    assert data["images"][4]["results"][1]["scores"] == [0.05]


def test_without_truth_nothing_is_judged(dataset):
    data = viewer_data([replace(dataset, rule=None, fallback=0.25)], 100)
    assert not data["judged"]
    assert data["images"][0]["truth"] == []
    assert data["systems"][0]["thresholds"] == [0.25] * 3
    assert data["systems"][0]["rule"] == ""


def test_without_systems_there_is_the_truth(dataset):
    data = viewer_data([replace(dataset, systems=())], 100)
    assert (data["systems"], data["judged"], data["images"][0]["results"]) == ([], False, [])
    assert data["images"][0]["truth"] == [0, 1]


def test_maps_are_named_by_image_system_and_class(dataset, tmp_path):
    maps = [tmp_path / "m.npz", None, tmp_path / "m.npz", None]
    other = replace(dataset, systems=(*dataset.systems[:1], SystemOutput("second", None, None, maps)))
    data = viewer_data([dataset, other], 100)
    assert data["images"][6]["results"][1]["maps"] == ["6-1-0", "6-1-1"]
    assert "maps" not in data["images"][5]["results"][1]
    assert (data["maps"], data["mapClass"]) == (["benign", "malignant"], 1)


def test_no_box_at_all(dataset):
    empty = replace(dataset, systems=[SystemOutput("none", table())])
    data = viewer_data([empty], 100)
    assert data["systems"][0]["hasBoxes"]
    assert data["systems"][0]["thresholds"] == [0.5] * 3
    assert data["images"][0]["results"][0]["found"] == [None]


def test_what_does_not_fit_is_refused(dataset):
    with pytest.raises(ValueError, match=r"the classes of other are not \['benign', 'malignant'\]"):
        viewer_data([dataset, replace(dataset, name="other", classes=("malignant", "benign"))], 100)
    with pytest.raises(ValueError, match=r"13 systems .* at most 12 fit side by side"):
        viewer_data([replace(dataset, systems=[SystemOutput(str(n)) for n in range(13)])], 100)


def test_limit_keeps_whole_exams_spread_over_the_data(dataset):
    exams = [n // 4 for n in range(40)]
    rows = embedded_rows(exams, 12)
    assert sorted({exams[row] for row in rows}) == [0, 4, 8]
    assert len(rows) == 12
    assert embedded_rows(exams, 40) == set(range(40))
    assert embedded_rows([7] * 5, 2) == {0, 1}
    data = viewer_data([dataset], 3)
    assert [image["px"] for image in data["images"]] == [0, 1, 2, None]
    assert data["note"] == "This file has 3 of the 4 images; the counts are of all."
    assert data["systems"][0]["counted"] == [[3, 4, 4]]


def test_rows_of_images():
    assert [rows.tolist() for rows in rows_of_images(np.array([2, 0, 2]), 4)] == [[1], [], [0, 2], []]
    assert rows_of_images(np.zeros(0, np.int64), 0) == []


def test_chest_wall():
    assert chest_side({}, [0, 0, 40, 80], 60) == "left"
    assert chest_side({}, [20, 0, 40, 80], 60) == "right"
    assert chest_side({"laterality": "R"}, [0, 0, 60, 80], 60) == "right"
    assert chest_side({"laterality": "R", "transform": {"flip": True}}, [0, 0, 60, 80], 60) == "left"
