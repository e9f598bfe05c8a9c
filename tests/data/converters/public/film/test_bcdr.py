import argparse
import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.film.bcdr import Bcdr
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse

IMAGES = "patient_id,study_id,series,image_filename,image_type_name,image_type_id,age,density\n"
OUTLINES = (
    "patient_id,study_id,series,lesion_id,segmentation_id,image_view,image_filename,lw_x_points,lw_y_points,"
    "mammography_type,mammography_nodule,mammography_calcification,mammography_microcalcification,"
    "mammography_axillary_adenopathy,mammography_architectural_distortion,mammography_stroma_distortion,age,density,"
    "classification\n"
)
SQUARE = " 60 80 80 60, 100 100 130 130"


def outline(patient, study, name, points=SQUARE, flags="1,0,0,0,0,0", verdict="Malign", lesion="7", segmentation="9"):
    return f"{patient},{study},1,{lesion},{segmentation},1, {name},{points},1,{flags},60, 2, {verdict}\n"


def write_image(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = half_ellipse(level=100.0)[0] * 0.5 + seed
    cv2.imwrite(str(path), pixels.clip(0, 255).astype(np.uint8))


@pytest.fixture
def source(tmp_path):
    """BCDR-D01 with two women, BCDR-DN01 with one, BCDR-F03 with outlines only; blanks as in the tables."""
    seed = 0
    d01 = tmp_path / "BCDR-D01_dataset"
    names = ["img_3_5_1_LCC.tif", "img_3_5_1_LO.tif", "img_4_6_1_RCC.tif"]
    folders = ["patient_3/study_5", "patient_3/study_5", "patient_4/study_6"]
    lines = [
        f"3, 5, 1, {folders[0]}/{names[0]}, LCC, 1, 60, 2\n",
        f"3, 5, 1, {folders[1]}/{names[1]}, LO, 3, 60, 2\n",
        f"4, 6, 1, {folders[2]}/{names[2]}, RCC, 0, 51, NaN\n",
    ]
    for folder, name in zip(folders, names, strict=True):
        write_image(d01 / folder / name, seed := seed + 1)
    (d01 / "bcdr_d01_img.csv").write_text(IMAGES + "".join(lines))
    rows = [
        outline(3, 5, f"{folders[0]}/{names[0]}"),
        outline(3, 5, f"{folders[0]}/{names[0]}", " 10 30 20, 200 200 220", "0,0,1,0,0,0", "Benign", "8", "10"),
        outline(4, 6, f"{folders[2]}/{names[2]}", verdict="Benign", lesion=""),
    ]
    (d01 / "bcdr_d01_outlines.csv").write_text(OUTLINES + "".join(rows))
    dn01 = tmp_path / "BCDR-DN01_dataset"
    write_image(dn01 / "patient_9" / "study_1" / "img_9_1_1_RO.tif", 11)
    (dn01 / "bcdr_dn01_img.csv").write_text(IMAGES + "9, 1, 1, patient_9/study_1/img_9_1_1_RO.tif, RO, 2, 44, 1\n")
    f03 = tmp_path / "BCDR-F03_dataset" / "BCDR-F03"
    write_image(f03 / "patient_3" / "study_2" / "img_3_2_1_RO.tif", 12)
    (f03 / "bcdr_f03_outlines.csv").write_text(OUTLINES + outline(3, 2, "./patient_3/study_2/img_3_2_1_RO.tif"))
    return tmp_path


def test_prepared(source, tmp_path):
    options = PrepareOptions(fractions=(("train", 1),), progress=False)
    result = prepare(Bcdr(source), tmp_path / "out", options)
    assert result.errors == []
    data = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert [image["file_name"] for image in data["images"]] == [
        "D01/patient_3/study_5/img_3_5_1_LCC.png",
        "D01/patient_3/study_5/img_3_5_1_LO.png",
        "D01/patient_4/study_6/img_4_6_1_RCC.png",
        "DN01/patient_9/study_1/img_9_1_1_RO.png",
        "F03/patient_3/study_2/img_3_2_1_RO.png",
    ]
    first, second, *_ = data["annotations"]
    # Indices of pixels: the last one belongs to the box.
    assert (first["category_id"], first["bbox"], first["finding"]) == (2, [60, 100, 21, 31], ["nodule"])
    assert first["segmentation"] == [[60.5, 100.5, 80.5, 100.5, 80.5, 130.5, 60.5, 130.5]]
    assert (first["lesion_id"], first["pathology"]) == ("D_3_5_7", "Malign")
    assert (second["category_id"], second["finding"]) == (1, ["microcalcification"])
    left_cc, left_mlo, right, normal, film = data["images"]
    assert [(i["laterality"], i["view"]) for i in data["images"]] == [
        ("L", "CC"), ("L", "MLO"), ("R", "CC"), ("R", "MLO"), ("R", "MLO"),
    ]  # fmt: skip
    assert left_cc["labels"] == {"benign": 1, "malignant": 1}
    assert left_mlo["labels"] == {"benign": None, "malignant": None}
    assert right["labels"] == {"benign": 1, "malignant": None}
    assert normal["labels"] == {"benign": 0, "malignant": 0}
    # Patient 3 of the films is another woman than patient 3 of the digital mammograms.
    assert (left_cc["patient_id"], film["patient_id"], left_cc["exam_id"]) == ("D_3", "F_3", "D_3_5")
    assert [i["density"] for i in data["images"]] == ["2", "2", None, "1", "2"]
    assert (left_cc["modality"], film["modality"], left_cc["pixel_spacing"]) == ("digital", "film", None)


def test_chosen_sets(source):
    assert {image.key[:4] for image in Bcdr(source, sets=["dn01"]).images()} == {"DN01"}
    with pytest.raises(ConverterError, match="no tables of the set 'D07'; there: D01, DN01, F03"):
        list(Bcdr(source, sets=["D07"]).images())


def test_files_and_rows_that_do_not_meet(source):
    path = source / "BCDR-D01_dataset" / "bcdr_d01_outlines.csv"
    path.write_text(path.read_text() + outline(5, 5, "patient_5/none.tif"))
    (source / "BCDR-D01_dataset" / "patient_4" / "study_6" / "img_4_6_1_RCC.tif").unlink()
    converter = Bcdr(source, sets=["D01"])
    assert len(list(converter.images())) == 2
    assert converter.skipped == [
        ("D01/patient_5/none.tif", "in bcdr_d01_outlines.csv, but not in bcdr_d01_img.csv"),
        ("D01/patient_4/study_6/img_4_6_1_RCC.tif", "in a table, but there is no such file"),
        ("D01/patient_5/none.tif", "in a table, but there is no such file"),
    ]


def test_an_outline_that_is_there_twice_counts_once(source):
    path = source / "BCDR-F03_dataset" / "BCDR-F03" / "bcdr_f03_outlines.csv"
    path.write_text(path.read_text() + outline(3, 2, "patient_3/study_2/img_3_2_1_RO.tif"))
    converter = Bcdr(source, sets=["F03"])
    (image,) = converter.images()
    assert len(image.annotations) == 1
    assert "line 3: the same outline again" in converter.skipped[0][1]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Malign\n", "Unclear\n", "line 2: classification 'Unclear' must be Benign or Malign"),
        (" 60 80 80 60,", " 60 80 80,", "line 2: 3 lw_x_points and 4 lw_y_points"),
        (" 60 80 80 60,", " 60 80 80 x,", "line 2: lw_x_points and lw_y_points must be whole numbers"),
        ("./patient_3/study_2", "../../study_2", "line 2: image_filename .* may lead out of its folder"),
        ("./patient_3/study_2", "x" * 300, "line 2: image_filename .* is too long for a file's name"),
    ],
)
def test_bad_rows(source, old, new, message):
    path = source / "BCDR-F03_dataset" / "BCDR-F03" / "bcdr_f03_outlines.csv"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConverterError, match=message):
        list(Bcdr(source, sets=["F03"]).images())


def test_a_table_that_is_there_twice(source):
    (source / "copy").mkdir()
    path = source / "BCDR-D01_dataset" / "bcdr_d01_img.csv"
    (source / "copy" / path.name).write_text(path.read_text())
    with pytest.raises(ConverterError, match="is the same table of the same set; remove one"):
        list(Bcdr(source).images())


def test_arguments(source):
    parser = argparse.ArgumentParser()
    Bcdr.add_arguments(parser)
    converter = Bcdr.from_arguments(parser.parse_args(["--source", str(source), "--sets", "F03", "dn01"]))
    assert converter.parameters()["sets"] == ["F03", "DN01"]
