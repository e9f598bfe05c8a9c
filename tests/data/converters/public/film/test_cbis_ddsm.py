import csv
import json
import shutil

import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.film.cbis_ddsm import CbisDdsm
from mammo_d2.data.format.annotations import check_splits
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

HEADER = ["patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type",
          "mass shape", "mass margins", "assessment", "pathology", "subtlety", "image file path",
          "cropped image file path", "ROI mask file path"]  # fmt: skip
PIXELS = (half_ellipse()[0] * 30).astype(np.uint16)
MASK = np.zeros((400, 300), np.uint8)
MASK[100:120, 60:100] = 255
CROP = np.arange(60 * 45, dtype=np.uint16).reshape(60, 45) % 251


def row(case, patient="P_1", lesion=1, pathology="MALIGNANT", assessment="4", view="CC"):
    image = f"{case}_{patient}_LEFT_{view}"
    roi = f"{image}_{lesion}"
    # Paths with a line break in quotes, as in the real tables.
    return [patient, "3", "LEFT", view, str(lesion), "mass", "OVAL", "CIRCUMSCRIBED", assessment, pathology, "4",
            f"{image}/1.2/1.3/000000.dcm", f"{roi}/1.4/1.5/000000.dcm", f"{roi}/1.4/1.5/000001.dcm\n"]  # fmt: skip


def write_table(source, name, rows):
    with (source / f"{name}_set.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])


def write_case(source, case, patient="P_1", view="CC", masks=(MASK,), swapped=False):
    folder = source / "CBIS-DDSM"
    image = f"{case}_{patient}_LEFT_{view}"
    write_dicom(folder / image / "1.2" / "1.3" / "000000.dcm", PIXELS, BitsStored=16, PatientID=image)
    for number, mask in enumerate(masks, start=1):
        roi = folder / f"{image}_{number}" / "1.4" / "1.5"
        names = ("000001.dcm", "000000.dcm") if swapped else ("000000.dcm", "000001.dcm")
        write_dicom(roi / names[0], CROP, BitsStored=16)
        write_dicom(roi / names[1], mask)


def run(source, **arguments):
    converter = CbisDdsm(source, **arguments)
    result = prepare(converter, source / "out", PrepareOptions(progress=False))
    records = {}
    for file in result.files:
        data = json.loads(file.read_text())
        for image in data["images"]:
            boxes = [a for a in data["annotations"] if a["image_id"] == image["id"]]
            records[image["file_name"]] = (file.stem, image, boxes)
    return records, result


def test_mask_becomes_box_and_polygon(tmp_path):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training")])
    write_case(tmp_path, "Mass-Training")
    records, _ = run(tmp_path)
    split, image, (lesion,) = records["P_1_LEFT_CC.png"]
    assert split == "train"
    assert (image["patient_id"], image["laterality"], image["view"], image["density"]) == ("P_1", "L", "CC", "3")
    assert lesion["bbox"] == [60, 100, 40, 20]
    assert (lesion["category_id"], lesion["pathology"], lesion["lesion_id"]) == (2, "MALIGNANT", "P_1_LEFT_mass_1")
    assert lesion["segmentation"] == [[60.5, 100.5, 60.5, 119.5, 99.5, 119.5, 99.5, 100.5]]


def test_exchanged_mask_and_crop_are_told_by_size(tmp_path):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training")])
    write_case(tmp_path, "Mass-Training", swapped=True)
    assert run(tmp_path)[0]["P_1_LEFT_CC.png"][2][0]["bbox"] == [60, 100, 40, 20]


def test_mask_of_another_resolution_is_scaled_of_another_shape_refused(tmp_path):
    rows = [row("Mass-Training"), row("Mass-Training", "P_2")]
    write_table(tmp_path, "mass_case_description_train", rows)
    write_case(tmp_path, "Mass-Training", masks=[np.ascontiguousarray(MASK[::2, ::2])])
    write_case(tmp_path, "Mass-Training", "P_2", masks=[np.ascontiguousarray(MASK[:, :200])])
    records, result = run(tmp_path)
    assert records["P_1_LEFT_CC.png"][2][0]["bbox"] == [60, 100, 40, 20]
    assert "P_2_LEFT_CC.png" not in records
    assert "no mask of the image's shape (400, 300)" in result.errors[0].problem


def test_empty_mask_is_an_error(tmp_path):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training"), row("Mass-Training", "P_2")])
    write_case(tmp_path, "Mass-Training")
    write_case(tmp_path, "Mass-Training", "P_2", masks=[np.zeros_like(MASK)])
    _, result = run(tmp_path)
    assert ["the lesion's mask is empty" in i.problem for i in result.errors] == [True]


def test_mass_and_calcification_of_one_view_are_one_image(tmp_path):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training", pathology="BENIGN_WITHOUT_CALLBACK")])
    write_table(tmp_path, "calc_case_description_train", [row("Calc-Training", assessment="5")])
    write_case(tmp_path, "Mass-Training")
    write_case(tmp_path, "Calc-Training")
    records, _ = run(tmp_path)
    (image,) = records
    _, record, lesions = records[image]
    assert [(a["category_id"], a["finding"]) for a in lesions] == [(1, "mass"), (2, "calcification")]
    assert (record["labels"], record["birads"]) == ({"benign": 1, "malignant": 1}, "5")
    assert len(run(tmp_path, kinds=["mass"])[0][image][2]) == 1


@pytest.mark.parametrize(("where", "expected"), [("test", {"test"}), ("train", {"train"}), ("drop", set())])
def test_patients_of_both_official_sets(tmp_path, where, expected):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training"), row("Mass-Training", "P_2")])
    write_table(tmp_path, "calc_case_description_test", [row("Calc-Test", view="MLO")])
    write_case(tmp_path, "Mass-Training")
    write_case(tmp_path, "Mass-Training", "P_2")
    write_case(tmp_path, "Calc-Test", view="MLO")
    records, result = run(tmp_path, shared_patients=where)
    assert {split for split, image, _ in records.values() if image["patient_id"] == "P_1"} == expected
    assert records["P_2_LEFT_CC.png"][0] == "train"
    assert check_splits(result.files).problems == []


def test_newer_download_with_other_file_names(tmp_path):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training")])
    write_case(tmp_path, "Mass-Training")
    for path in list((tmp_path / "CBIS-DDSM").rglob("*.dcm")):
        target = path.parents[2] / "07-20-2016-DDSM" / "1.000000-images" / f"1-{1 + int(path.stem)}.dcm"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
    assert run(tmp_path)[0]["P_1_LEFT_CC.png"][2][0]["bbox"] == [60, 100, 40, 20]


def test_views_without_files_are_skipped(tmp_path):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training"), row("Mass-Training", "P_9")])
    write_case(tmp_path, "Mass-Training")
    _, result = run(tmp_path)
    assert [what for what, _ in result.skipped] == ["P_9_LEFT_CC"]


def test_bad_input(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mass_case_description_train_set\.csv: no such"):
        list(CbisDdsm(tmp_path).images())
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training", pathology="UNPROVEN")])
    with pytest.raises(ConverterError, match="line 2: pathology 'UNPROVEN' must be one of MALIGNANT"):
        list(CbisDdsm(tmp_path).images())
    write_table(tmp_path, "mass_case_description_train", [row("../elsewhere/Mass-Training")])
    with pytest.raises(ConverterError, match=r"line 2: image file path '\.\./elsewhere.* has '\.\.' in it"):
        list(CbisDdsm(tmp_path).images())
    write_table(tmp_path, "mass_case_description_train", [row("/etc/Mass-Training")])
    with pytest.raises(ConverterError, match=r"line 2: image file path '/etc.* is an absolute path"):
        list(CbisDdsm(tmp_path).images())
    with pytest.raises(ConverterError, match="kinds"):
        CbisDdsm(tmp_path, kinds=["asymmetry"])
    with pytest.raises(ConverterError, match="shared_patients"):
        CbisDdsm(tmp_path, shared_patients="both")


@pytest.mark.shared_data
def test_real_tables(shared_data):
    rows = list(CbisDdsm(shared_data / "cbis_ddsm").rows())
    assert len(rows) == 3568
    assert len({r["patient_id"] for r in rows}) == 1566
    assert len({(r["patient_id"], r["left or right breast"], r["image view"]) for r in rows}) == 3032
    splits = {}
    for r in rows:
        splits.setdefault(r["patient_id"], set()).add(r["split"])
    assert sum(len(s) == 2 for s in splits.values()) == 31


def test_a_lesion_that_is_there_twice(tmp_path):
    rows = [row("Mass-Training"), row("Mass-Training", pathology="BENIGN")]
    write_table(tmp_path, "mass_case_description_train", rows)
    with pytest.raises(ConverterError, match=r"line 4: P_1 LEFT CC 1 is the lesion of line 2, too"):
        list(CbisDdsm(tmp_path).images())


@pytest.mark.parametrize("assessment", ["nan", "7", "x"])
def test_an_assessment_that_is_none(tmp_path, assessment):
    write_table(tmp_path, "mass_case_description_train", [row("Mass-Training", assessment=assessment)])
    with pytest.raises(ConverterError, match=f"line 2: assessment '{assessment}' is no BI-RADS"):
        list(CbisDdsm(tmp_path).images())
