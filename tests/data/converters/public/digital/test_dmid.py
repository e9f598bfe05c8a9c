import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.digital.dmid import Dmid
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

openpyxl = pytest.importorskip("openpyxl")

ROWS = [
    ["IMG001", "CCLT", "G", "CIRC", "B", 80, 110, 10],  # within the mask, from the top
    ["IMG002", "MLO RT", "F", "NORM", "N", None, None, None],
    ["IMG003", "MLORT", "D", "MISC+CALC", "M", 80, 110, 12],  # no mask
    ["IMG004", "CCRT", "D", "SPIC", "M", 80, 289, 10],  # within the mask, from the bottom: 400 - 110 - 1
    ["IMG004", "CCRT", "D", "CLAC", "B", 100, 99, 10],
    ["IMG005", "CCRT", "G", "ASYM", "M", "-", "-", "-"],  # no mask, no circle
    ["IMG006", "CCRT", "G", "ARCH", "M", 5, 5, 2],  # a circle beside the mask
]
# Parts as x, y, width, height.
MASKS = {1: [(60, 100, 40, 20)], 4: [(60, 100, 40, 20), (80, 280, 40, 40)], 6: [(60, 100, 40, 20), (100, 200, 20, 20)]}


def write_table(folder, rows=ROWS):
    book = openpyxl.Workbook()
    for number in range(31):
        book.active.append([f"text {number}"])
    for row in rows:
        book.active.append(row)
    book.save(folder / "Metadata.xlsx")


@pytest.fixture
def source(tmp_path):
    """A miniature of the set: folders within folders of the same name, colour TIFFs with an alpha channel."""
    root = tmp_path / "dmid"
    for folder in ("TIFF Images/TIFF Images", "ROI Masks/ROI Masks"):
        (root / folder).mkdir(parents=True)
    for number in range(1, 8):
        grey = (half_ellipse()[0] * 0.2 + number).clip(0, 255).astype(np.uint8)
        pixels = np.dstack([grey, grey, grey, np.full_like(grey, 255)])
        assert cv2.imwrite(str(root / f"TIFF Images/TIFF Images/IMG{number:03d}.tif"), pixels)
    for number, parts in MASKS.items():
        mask = np.zeros((400, 300, 4), np.uint8)
        mask[..., 3] = 255
        for x, y, width, height in parts:
            mask[y : y + height, x : x + width, :3] = 255
        assert cv2.imwrite(str(root / f"ROI Masks/ROI Masks/IMG{number:03d}.tif"), mask)
    write_table(root)
    return root


def test_facts(source):
    converter = Dmid(source)
    found = {image.key: image for image in converter.images()}
    assert sorted(found) == [f"IMG00{n}" for n in range(1, 7)]
    image = found["IMG002"]
    assert (image.laterality, image.view, image.labels) == ("R", "MLO", {"benign": 0, "malignant": 0})
    assert image.extra == {"tissue": "F", "findings": ["NORM"]}
    assert (image.patient_id, found["IMG001"].labels) == (None, {"benign": 1, "malignant": 0})
    assert found["IMG004"].labels == {"benign": 1, "malignant": 1}
    assert found["IMG004"].extra["findings"] == ["CALC", "SPIC"]
    assert ("TIFF Images/TIFF Images/IMG007.tif", "not in Metadata.xlsx") in converter.skipped
    # A finding of unknown place makes its image positive, without a box.
    assert (found["IMG005"].annotations, found["IMG005"].labels) == ((), {"benign": 0, "malignant": 1})
    assert ("IMG005.tif", "line 37: ASYM without a circle or mask; no box") in converter.skipped


def test_boxes_come_from_masks_and_circles(source, tmp_path):
    result = prepare(Dmid(source), tmp_path / "out", PrepareOptions(fractions=(("train", 1.0),), progress=False))
    assert result.errors == []
    data = json.loads(result.files[0].read_text())
    names = {image["id"]: image["file_name"] for image in data["images"]}
    boxes = {}
    for lesion in data["annotations"]:
        facts = (lesion["category_id"], lesion["bbox"], lesion["box_from"])
        boxes.setdefault(names[lesion["image_id"]], []).append(facts)
    assert boxes == {
        "IMG001.png": [(1, [60, 100, 40, 20], "mask")],
        "IMG003.png": [(2, [68.5, 98.5, 24, 24], "circle")],
        # The circles fit the mask if y counts from the bottom.
        "IMG004.png": [(2, [60, 100, 40, 20], "mask"), (1, [80, 280, 40, 40], "mask")],
        # The circle fits neither way; all findings of the image are malignant.
        "IMG006.png": [(2, [60, 100, 40, 20], "mask"), (2, [100, 200, 20, 20], "mask")],
    }


def test_parts_that_no_finding_names(source, tmp_path):
    rows = [["IMG004", "CCRT", "D", "SPIC", "M", 80, 110, 10], ["IMG004", "CCRT", "D", "CALC", "B", 10, 10, 3]]
    write_table(source, rows)
    result = prepare(Dmid(source), tmp_path / "out", PrepareOptions(fractions=(("train", 1.0),), progress=False))
    data = json.loads(result.files[0].read_text())
    assert [(a["category_id"], a["box_from"]) for a in data["annotations"]] == [(2, "mask"), (1, "circle")]
    assert data["images"][0]["unassessed_boxes"] == [[80, 280, 40, 40]]


def test_a_mask_of_another_shape_leaves_the_image_out(source, tmp_path):
    cv2.imwrite(str(source / "ROI Masks/ROI Masks/IMG001.tif"), np.full((300, 400), 255, np.uint8))
    result = prepare(Dmid(source), tmp_path / "out", PrepareOptions(fractions=(("train", 1.0),), progress=False))
    (error,) = result.errors
    assert error.key == "IMG001"
    assert "mask of (300, 400) pixels, the image has (400, 300)" in error.problem


def test_the_dicom_files(source, tmp_path):
    write_dicom(source / "DICOM Images" / "IMG001.dcm", half_ellipse()[0].astype(np.uint16))
    converter = Dmid(source, "dicom")
    (image,) = converter.images()
    assert image.path.name == "IMG001.dcm"
    assert ("IMG002", "in Metadata.xlsx, but not in 'DICOM Images'") in converter.skipped


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["IMG001", "CCLT", "G", "LUMP", "B", 1, 2, 3], "line 32: abnormality 'LUMP' must be among CALC"),
        (["IMG001", "CCLT", "G", "CIRC", "X", 1, 2, 3], "line 32: class 'X' must be B or M"),
        (["IMG001", "CCLT", "G", "CIRC", "N", 1, 2, 3], "line 32: class 'N' must be B or M, or N of NORM alone"),
        (["IMG001", "CCLT", "G", "CIRC", "B", 1, "-", 3], "line 32: x, y, radius .* must be three numbers"),
        (["IMG001", "CCLT", "G", "CIRC", "B", 1, 2, 0], "line 32: x, y, radius .* the radius above 0"),
    ],
)
def test_wrong_rows(source, row, message):
    write_table(source, [row])
    with pytest.raises(ConverterError, match=message):
        list(Dmid(source).images())


def test_wrong_tables(source):
    write_table(source, [ROWS[1], ["IMG002", "MLORT", "F", "CIRC", "B", 1, 2, 3]])
    with pytest.raises(ConverterError, match="IMG002 is NORM in one row and has a finding in another"):
        list(Dmid(source).images())
    write_table(source, [["mdb001", "CC"]])
    with pytest.raises(ConverterError, match="no row begins with IMG001"):
        list(Dmid(source).images())
    with pytest.raises(ConverterError, match="files 'png' must be one of tiff, dicom"):
        Dmid(source, "png")


def test_unknown_views(source):
    write_table(source, [["IMG001", "LAT", "G", "CIRC", "B", 1, 2, 3]])
    converter = Dmid(source)
    (image,) = converter.images()
    assert (image.view, image.laterality) == (None, None)
    assert ("IMG001.tif", "view 'LAT' is unknown") in converter.skipped
