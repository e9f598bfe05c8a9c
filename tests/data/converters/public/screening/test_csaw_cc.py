import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.screening.csaw_cc import TABLE, CsawCc
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

HEADER = (
    "anon_patientid,exam_year,x_age,x_case,x_cancer_laterality,x_type,x_lymphnode_met,rad_timing,rad_r1,rad_r2,"
    "rad_recall,rad_recall_type_right,rad_recall_type_left,libra_breastarea,libra_densearea,libra_percentdensity,"
    "imagelaterality,viewposition,anon_filename\n"
)
# Patient, year, case, side of the cancer, timing, side, view, number.
ROWS = [
    ("00001", 2012, 1, "Left", "1.0", "Left", "CC", 3),
    ("00001", 2012, 1, "Left", "1.0", "Left", "MLO", 4),
    ("00001", 2012, 1, "Left", "1.0", "Right", "CC", 5),
    ("00001", 2010, 1, "Left", "3.0", "Left", "CC", 1),
    ("00002", 2011, 1, "Right", "2.0", "Right", "CC", 1),
    ("00003", 2011, 0, "", "", "Left", "MLO", 1),
]


def name_of(row):
    return f"{row[0]}_20990909_{row[5][0]}_{row[6]}_{row[7]}"


def line(row):
    patient, year, case, cancer, timing, side, view, _ = row
    facts = f"{patient},{year},1,{case},{cancer},,,{timing},0,0,0,,,120.5,30.5,25.3"
    return f"{facts},{side},{view},{name_of(row)}.dcm\n"


@pytest.fixture
def source(tmp_path):
    """The table, images in a folder per patient, and the mask of one tumour in two parts."""
    (tmp_path / TABLE).write_text(HEADER + "".join(map(line, ROWS)))
    for number, row in enumerate(ROWS):
        side = "left" if row[5] == "Left" else "right"
        pixels = half_ellipse(side=side)[0].astype(np.uint16) + number
        write_dicom(tmp_path / "images" / row[0] / f"{name_of(row)}.dcm", pixels, Manufacturer="HOLOGIC, Inc.")
    mask = np.zeros((400, 300), np.uint8)
    mask[100:120, 50:80] = 255
    mask[200:210, 60:70] = 255
    mask[300, 10] = 255  # a slip of the pen
    (tmp_path / "annotations").mkdir()
    cv2.imwrite(str(tmp_path / "annotations" / f"{name_of(ROWS[0])}_mask.png"), mask)
    return tmp_path


def test_prepared(source, tmp_path):
    result = prepare(CsawCc(source), tmp_path / "out", PrepareOptions(fractions=(("train", 1),), progress=False))
    assert result.errors == []
    data = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert [a["bbox"] for a in data["annotations"]] == [[50, 100, 30, 20], [60, 200, 10, 10]]
    assert {a["category_id"] for a in data["annotations"]} == {2}
    assert data["annotations"][1]["lesion_id"] == "00001_20990909_L_CC_3_2"
    images = data["images"]
    assert images[0]["file_name"] == "00001/00001_20990909_L_CC_3.png"
    assert [(i["patient_id"], i["exam_id"]) for i in images[2:5]] == [
        ("00001", "00001_2012"), ("00001", "00001_2010"), ("00002", "00002_2011"),
    ]  # fmt: skip
    assert [(i["laterality"], i["view"]) for i in images[:3]] == [("L", "CC"), ("L", "MLO"), ("R", "CC")]
    assert (images[0]["exam_year"], images[0]["timing"], images[0]["libra_percent_density"]) == (2012, "1", 25.3)


def test_what_an_image_shows_depends_on_the_time_to_the_diagnosis(source):
    labels = [image.labels for image in CsawCc(source).images()]
    found, contralateral, unknown = (
        {"benign": None, "malignant": 1},
        {"benign": None, "malignant": 0},
        {"benign": None, "malignant": None},
    )
    # Found by it (twice), the other breast, three years before it, an interval cancer, a woman without cancer.
    assert labels == [found, found, contralateral, unknown, unknown, contralateral]


def test_interval_cancers_by_label_rules(source, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "breast:\n  - {cancer: same breast, timing: [1, 2], is: malignant}\n  - {case: '*', is: left out}\n"
    )
    converter = CsawCc(source)
    converter.use_label_rules(tmp_path / "rules.yaml")
    images = list(converter.images())
    assert [image.labels["malignant"] for image in images] == [1, 1, 1]
    assert images[-1].patient_id == "00002"
    assert len(converter.skipped) == 3


def test_a_mask_of_an_earlier_image_makes_it_malignant(source):
    mask = source / "annotations" / f"{name_of(ROWS[0])}_mask.png"
    mask.rename(mask.with_name(f"{name_of(ROWS[3])}_mask.png"))
    image = list(CsawCc(source).images())[3]
    assert (image.labels["malignant"], len(image.annotations)) == (1, 1)


@pytest.mark.parametrize("row", [ROWS[2], ROWS[5]])
def test_a_mask_of_a_breast_without_cancer_leaves_out_the_image(source, row):
    mask = source / "annotations" / f"{name_of(ROWS[0])}_mask.png"
    mask.rename(mask.with_name(f"{name_of(row)}_mask.png"))
    (image,) = (image for image in CsawCc(source).images() if image.problem)
    assert "a tumour in a breast that has no cancer by" in image.problem
    assert image.path.stem == name_of(row)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((400, 300), np.uint8), "the mask is empty"),
        (np.full((300, 300), 255, np.uint8), r"a mask of \(300, 300\), its image has \(400, 300\)"),
    ],
)
def test_masks_that_cannot_be_used(source, tmp_path, mask, message):
    cv2.imwrite(str(source / "annotations" / f"{name_of(ROWS[0])}_mask.png"), mask)
    result = prepare(CsawCc(source), tmp_path / "out", PrepareOptions(progress=False))
    (issue,) = result.errors
    assert issue.key == "00001/00001_20990909_L_CC_3"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(issue.problem)


def test_a_mask_of_half_the_size_is_scaled(source):
    mask = np.zeros((200, 150), np.uint8)
    mask[50:60, 25:40] = 255
    cv2.imwrite(str(source / "annotations" / f"{name_of(ROWS[0])}_mask.png"), mask)
    converter = CsawCc(source)
    image = next(iter(converter.images()))
    (lesion,) = converter.complete(image, *converter.read(image)).annotations
    assert lesion.bbox == (50, 100, 30, 20)


def test_files_that_are_missing(source):
    (source / "images" / "00003" / f"{name_of(ROWS[5])}.dcm").unlink()
    converter = CsawCc(source)
    assert len(list(converter.images())) == 5
    assert converter.skipped == [(f"{name_of(ROWS[5])}.dcm", f"in {TABLE}, but there is no such file")]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",1,Left,,,1.0,", ",2,Left,,,1.0,", "line 2: x_case '2' must be 0 or 1"),
        (",1,Left,,,1.0,", ",1,Left,,,7,", "rad_timing '7' 1 to 3"),
        ("00003_20990909_L_MLO_1.dcm", "00002_20990909_R_CC_1.dcm", "line 7: anon_filename .* is there twice"),
        ("00003_20990909_L_MLO_1.dcm", "../00003.dcm", "line 7: anon_filename .* may lead out of its folder"),
    ],
)
def test_bad_rows(source, old, new, message):
    path = source / TABLE
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ConverterError, match=message):
        list(CsawCc(source).images())
