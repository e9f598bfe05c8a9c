"""Predictions as files: COCO, table in pixels and millimetres, errors, pictures."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.format.annotations import validate_coco
from mammo_d2.data.reading.image_meta import ImageMeta
from mammo_d2.inference.prediction_files import (
    FileProblem,
    Prediction,
    predictions_to_coco,
    table_rows,
    write_picture,
    write_predictions,
)
from mammo_d2.inference.result_files import TABLE_COLUMNS, category_ids
from mammo_d2.pictures.drawing import CLASS_COLORS, PREDICTION_COLOR, REGION_COLOR

CLASSES = ["malignant", "benign"]


def make(file="in/a.dcm", boxes=((10, 20, 40, 60), (1, 2, 3, 4)), scores=(0.75, 0.125), labels=(0, 1), **more):
    meta = ImageMeta(
        file, "dicom", 200, 100, 12, 4095.0, laterality="L", view="CC", patient_id="P1", exam_id="E1",
        pixel_spacing=(0.1, 0.05), pixel_spacing_source="ImagerPixelSpacing",
    )  # fmt: skip
    transform = ImageTransform((200, 100), (0, 20, 60, 160), True, (0.5, 0.5))
    return Prediction(
        file,
        meta,
        transform,
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(scores, np.float64),
        np.array(labels, np.int64),
        {"malignant": 0.75, "benign": 0.125},
        **more,
    )


def test_categories_keep_the_ids_of_the_package_format():
    assert category_ids(["malignant"]) == {"malignant": 2}
    assert category_ids(["lesion", "benign", "other"]) == {"lesion": 3, "benign": 1, "other": 4}


def test_coco_file_is_complete_and_valid():
    coco = predictions_to_coco([make(), make("in/b.dcm", (), (), ())], CLASSES, {"description": "d"})
    assert [(image["id"], image["file_name"]) for image in coco["images"]] == [(1, "in/a.dcm"), (2, "in/b.dcm")]
    first = coco["images"][0]
    assert (first["height"], first["width"], first["patient_id"], first["pixel_spacing"]) == (
        200,
        100,
        "P1",
        [0.1, 0.05],
    )
    assert first["image_scores"] == {"malignant": 0.75, "benign": 0.125}
    assert first["preparation"] == {
        "source_size": [200, 100],
        "crop": [0, 20, 60, 160],
        "flip": True,
        "scale": [0.5, 0.5],
    }
    assert "transform" not in first  # the boxes are in pixels of file_name
    assert coco["annotations"] == [
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0, "score": 0.75},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 2, 2], "area": 4, "iscrowd": 0, "score": 0.125},
    ]
    assert coco["categories"] == [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    assert validate_coco(coco).errors == []


def test_table_has_a_row_per_box_in_pixels_and_millimetres():
    rows = table_rows([make(), make("b", (), (), ())], CLASSES)
    assert len(rows) == 2
    # 0.05 mm a column, 0.1 mm a row.
    assert rows[0] == {
        "file": "in/a.dcm", "patient_id": "P1", "laterality": "L", "view": "CC", "class": "malignant", "score": 0.75,
        "x": 10, "y": 20, "width": 30, "height": 40, "x_mm": 0.5, "y_mm": 2, "width_mm": 1.5, "height_mm": 4,
    }  # fmt: skip


def test_table_has_no_millimetres_without_a_spacing():
    prediction = make()
    object.__setattr__(prediction.meta, "pixel_spacing", None)
    assert not any(name.endswith("_mm") for name in table_rows([prediction], CLASSES)[0])


def test_threshold_keeps_scores_at_it():
    kept = make().at_least(0.75)
    assert kept.scores.tolist() == [0.75]
    assert kept.image_scores["benign"] == 0.125
    assert make().at_least(0.8).boxes.shape == (0, 4)


def test_written_files(tmp_path):
    problems = [FileProblem("c.png", 'c.png: damaged, "really"\nand more')]
    write_predictions(tmp_path / "out", [make(warnings=("no window",))], problems, CLASSES)
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())["annotations"][0]["score"] == 0.75
    with (tmp_path / "out" / "predictions.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert tuple(rows[0]) == TABLE_COLUMNS
    assert (rows[1]["class"], rows[1]["score"], rows[1]["width_mm"]) == ("benign", "0.125", "0.1")
    with (tmp_path / "out" / "errors.csv").open(newline="") as stream:
        errors = list(csv.reader(stream))
    assert errors == [
        ["level", "file", "problem"],
        ["error", "c.png", 'c.png: damaged, "really"\nand more'],
        ["warning", "in/a.dcm", "no window"],
    ]


def test_image_scores_have_a_row_per_file(tmp_path):
    write_predictions(tmp_path, [make(), make("b.png", (), (), ())], [], CLASSES, keep_ids=True)
    with (tmp_path / "image_scores.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows[0] == {
        "image_id": "1", "file": "in/a.dcm", "patient_id": "P1", "laterality": "L", "view": "CC",
        "malignant": "0.75", "benign": "0.125",
    }  # fmt: skip
    assert [(row["image_id"], row["file"]) for row in rows] == [("1", "in/a.dcm"), ("2", "b.png")]


def test_identifiers_are_hashed_as_prepare_does_it(tmp_path):
    unknown = make("b.png")
    unknown = replace(unknown, meta=replace(unknown.meta, patient_id=None, exam_id=None))
    write_predictions(tmp_path, [make(), unknown], [], CLASSES, id_salt="secret")
    images = json.loads((tmp_path / "predictions.json").read_text())["images"]
    # printf P1 | openssl dgst -sha256 -hmac secret
    expected = ("17761940192b0358", "6493d40fe130e46d")
    assert [(image["patient_id"], image["exam_id"]) for image in images] == [expected, (None, None)]
    for name in ("predictions.csv", "image_scores.csv"):
        with (tmp_path / name).open(newline="") as stream:
            ids = [row["patient_id"] for row in csv.DictReader(stream)]
        assert set(ids) == {expected[0], ""}


def test_files_are_written_without_any_prediction(tmp_path):
    write_predictions(tmp_path, [], [], CLASSES)
    assert json.loads((tmp_path / "predictions.json").read_text())["images"] == []
    assert (tmp_path / "predictions.csv").read_text() == ",".join(TABLE_COLUMNS) + "\n"
    assert (tmp_path / "errors.csv").read_text() == "level,file,problem\n"
    header = "image_id,file,patient_id,laterality,view," + ",".join(CLASSES)
    assert (tmp_path / "image_scores.csv").read_text() == header + "\n"


def test_picture_has_the_boxes_and_the_part_that_was_looked_at(tmp_path):
    shown = np.full((400, 200), 77, np.uint8)  # twice the size of the file
    path = write_picture(tmp_path, 7, make("in/a b$.dcm", picture=shown), CLASSES)
    assert path == tmp_path / "pictures" / "00007_a_b_.png"
    picture = cv2.imread(str(path))[..., ::-1]
    assert (picture[60:118, 19:21] == PREDICTION_COLOR).all()  # left edge of the box, 10 x 2
    assert (picture[119:121, 30:70] == PREDICTION_COLOR).all()  # lower edge, 60 x 2
    assert (picture[320:358, 119] == REGION_COLOR).all()  # right edge of the crop, 60 x 2 - 1
    assert (picture[300:320, 130:200] == 77).all()  # elsewhere as it was


def test_picture_must_have_been_kept(tmp_path):
    with pytest.raises(ValueError, match=r"a\.dcm: predicted without keeping a picture"):
        write_picture(tmp_path, 1, make(), CLASSES)
    assert make(picture=np.zeros((2, 2), np.uint8)).without_picture().picture is None


def test_the_best_boxes_of_each_class_are_drawn_in_its_colour(tmp_path):
    """Boxes in pixels of the file, which the picture shows twice as large."""
    boxes = np.array([[10.0, 10 + 40 * k, 30, 30 + 40 * k] for k in range(4)])
    meta_and_more = {"picture": np.full((400, 200), 77, np.uint8)}
    prediction = replace(make(**meta_and_more), boxes=boxes, scores=np.array([0.9, 0.8, 0.7, 0.1]))
    prediction = replace(prediction, labels=np.array([1, 1, 1, 0]))
    picture = cv2.imread(str(write_picture(tmp_path, 1, prediction, CLASSES, top=2)))[..., ::-1]
    drawn = [tuple(picture[40 + 80 * k, 20].tolist()) for k in range(4)]  # in the middle of each left edge
    assert drawn == [CLASS_COLORS[1], CLASS_COLORS[1], (77, 77, 77), CLASS_COLORS[0]]
    everything = cv2.imread(str(write_picture(tmp_path, 2, prediction, CLASSES)))[..., ::-1]
    assert tuple(everything[200, 20].tolist()) == CLASS_COLORS[1]
