import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.digital.kau_bcmd import KauBcmd
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

FILES = [
    "Birad1/b1/2018_BC001_CC_L.jpg", "Birad1/b1/2018_BC001_CC_R .jpg", "Birad1/b1/2019_BC001_MLO_L.jpg",
    "Birad3/b3/2018_BC002_CC_R.jpg", "Birad4/b4/2018_BC003_CC_R.jpg", "Birad5/Birad5/2018_BC003_CC_R.jpg",
    "Birad5/Birad5/2018_BC004_MLO_L.jpg", "Birad5/Birad5/Tumor Masks/BC004_mask.jpg",
]  # fmt: skip


@pytest.fixture
def source(tmp_path):
    """A miniature of the set's JPEG form."""
    root = tmp_path / "archive"
    for number, name in enumerate(FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = (half_ellipse()[0] * 0.2 + number).clip(0, 255).astype(np.uint8)
        assert cv2.imwrite(str(root / name), pixels)
    return root


def listed(source):
    converter = KauBcmd(source)
    return {image.key: image for image in converter.images()}, converter


def write_sheet(source, rows):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "tabel "
    sheet = book.create_sheet("correctSheet")
    for row in [["Image path", "Percentage of\n grandular tissue(density)"], *rows]:
        sheet.append(row)
    book.save(source / "correctSheetlast.xlsx")


def test_exams_of_several_years(source):
    found, _ = listed(source)
    first, later = found["BC001/2018_BC001_CC_R"], found["BC001/2019_BC001_MLO_L"]
    assert (first.patient_id, first.exam_id, first.laterality, first.view) == ("BC001", "BC001_2018", "R", "CC")
    assert (later.patient_id, later.exam_id) == ("BC001", "BC001_2019")
    assert (first.birads, first.labels, first.density) == ("1", {"benign": 0, "malignant": 0}, None)


def test_a_suspicious_exam_does_not_say_which_image(source):
    found, _ = listed(source)
    assert found["BC002/2018_BC002_CC_R"].labels == {"benign": None, "malignant": 0}
    image = found["BC004/2018_BC004_MLO_L"]
    assert (image.birads, image.labels) == ("5", {"benign": None, "malignant": None})


def test_a_study_may_take_the_grade_as_the_breasts(source, tmp_path):
    (tmp_path / "rules.yaml").write_text(
        "breast:\n- {birads: [4, 5], is: malignant}\n- {birads: [2, 3], is: benign}\n- {birads: 1, is: normal}\n"
        "- {birads: '', is: unknown}\n"
    )
    converter = KauBcmd(source)
    converter.use_label_rules(tmp_path / "rules.yaml")
    found = {image.key: image.labels for image in converter.images()}
    assert found["BC004/2018_BC004_MLO_L"] == {"benign": None, "malignant": 1}
    assert found["BC002/2018_BC002_CC_R"] == {"benign": 1, "malignant": 0}


def test_an_image_in_the_folders_of_two_grades(source):
    found, converter = listed(source)
    image = found["BC003/2018_BC003_CC_R"]
    assert (image.birads, image.labels) == (None, {"benign": None, "malignant": None})
    why = "in the folders of BI-RADS 4 and 5: its grade is unknown"
    assert ("Birad4/b4/2018_BC003_CC_R.jpg", why) in converter.skipped


def test_what_is_no_mammogram_is_skipped(source):
    _, converter = listed(source)
    why = "no name such as 2018_BC005421_CC_R in the folder of a grade"
    assert ("Birad5/Birad5/Tumor Masks/BC004_mask.jpg", why) in converter.skipped


def test_densities(source):
    write_sheet(source, [["b3\\2018_BC002_CC_R.jpg", "26%-50%"], ["2018_BC001_CC_ R.jpg", ">75%"], [None, ">75%"],
                         ["2018_BC004_MLO_L.jpg", "dense"]])  # fmt: skip
    found, converter = listed(source)
    densities = {key: image.density for key, image in found.items() if image.density}
    assert densities == {"BC002/2018_BC002_CC_R": "B", "BC001/2018_BC001_CC_R": "D"}
    assert any(why.startswith("line 5: density 'dense' is none of") for _, why in converter.skipped)
    write_sheet(source, [["2018_BC002_CC_R.jpg", "26%-50%"], ["2018_BC002_CC_R.jpg", ">75%"]])
    with pytest.raises(ConverterError, match="line 3: another density of 2018_BC002_CC_R"):
        listed(source)


def test_the_dicom_form_prepared(tmp_path):
    pixels = half_ellipse()[0].astype(np.uint16)
    write_dicom(tmp_path / "BIRAD 1" / "BIRAD 1" / "2018_BC001_CC_L.dcm", pixels)
    write_dicom(tmp_path / "BIRAD 5" / "BIRAD 5" / "2018_BC002_CC_R.dcm", pixels + 1)
    result = prepare(KauBcmd(tmp_path), tmp_path / "out", PrepareOptions(fractions=(("train", 1.0),), progress=False))
    assert (result.errors, result.counts["train"]["images"]) == ([], 2)


def test_another_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no Birad1/\.\.\./2018_BC005421_CC_R\.jpg"):
        list(KauBcmd(tmp_path).images())
