"""VinDr-Mammo from PNG copies."""

import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.screening.vindr_mammo import VindrMammo
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse
from tests.data.converters.public.screening.test_vindr_mammo import BREASTS, FINDINGS

FOLDS = (
    "study_id,image_id,height,width,xmin,ymin,xmax,ymax,resized_xmin,resized_ymin,resized_xmax,resized_ymax\n"
    "s1,i1,400,300,60.5,100,100.5,120,200,400,330,480\ns1,i1,400,300,10,200,40,220,20,800,120,880\n"
    "s2,i3,400,300,,,,,,,,\n"
)


def write_source(folder, size):
    (folder / "breast-level_annotations.csv").write_text(BREASTS)
    (folder / "finding_annotations.csv").write_text(FINDINGS)
    for number, name in enumerate(("s1/i1", "s1/i2", "s2/i3")):
        path = folder / "images_png" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = (cv2.resize(half_ellipse()[0], size[::-1]) * 0.2 + number).clip(0, 255).astype(np.uint8)
        assert cv2.imwrite(str(path), pixels)


def prepared(folder):
    result = prepare(VindrMammo(folder, pngs=folder / "images_png"), folder / "out", PrepareOptions(progress=False))
    data = [json.loads(path.read_text()) for path in result.files]
    return [a["bbox"] for d in data for a in d["annotations"]], [e.problem for e in result.errors]


def test_boxes_are_scaled_to_files_of_the_same_shape(tmp_path):
    write_source(tmp_path, (200, 150))
    assert prepared(tmp_path) == ([[30.25, 50, 20, 10], [5, 100, 15, 10]], [])


def test_files_of_another_shape_need_the_table_of_their_copy(tmp_path):
    write_source(tmp_path, (200, 200))
    boxes, (problem,) = prepared(tmp_path)
    assert boxes == []
    # Images without a box are the same in any shape.
    assert "i1.png: the file has 200 x 200 pixels" in problem
    assert "drawn on 400 x 300" in problem


def test_the_widespread_copy(tmp_path):
    write_source(tmp_path, (1520, 912))
    (tmp_path / "vindr_detection_v1_folds.csv").write_text(FOLDS)
    assert prepared(tmp_path) == ([[200, 400, 130, 80], [20, 800, 100, 80]], [])


def test_boxes_that_the_copys_script_cut(tmp_path):
    # y of 320 lies beyond the image's width of 300, at which the script clips it.
    low = ("10,200,40,220", "10,300,40,320")
    write_source(tmp_path, (1520, 912))
    (tmp_path / "finding_annotations.csv").write_text(FINDINGS.replace(*low))
    (tmp_path / "vindr_detection_v1_folds.csv").write_text(FOLDS.replace(*low))
    boxes, (problem,) = prepared(tmp_path)
    assert boxes == []
    assert "the copy's table cut a box of this image at its lower edge" in problem


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("breast-level_annotations.csv", "CC,400,300", "CC,,300", "line 2: height '' and width '300' must be pixels"),
        ("breast-level_annotations.csv", "height", "rows", "column 'height' is missing"),
        ("vindr_detection_v1_folds.csv", "200,400,330", "200,x,330", "line 2: boxes must be numbers"),
    ],
)
def test_wrong_tables(tmp_path, name, old, new, message):
    write_source(tmp_path, (200, 150))
    (tmp_path / "vindr_detection_v1_folds.csv").write_text(FOLDS)
    path = tmp_path / name
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConverterError, match=message):
        list(VindrMammo(tmp_path, pngs=tmp_path / "images_png").images())
