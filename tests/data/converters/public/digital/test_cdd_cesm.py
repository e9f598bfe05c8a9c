import csv
import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.digital.cdd_cesm import CddCesm
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse

HEADER = ["Image_name", "Patient_ID", "Side", "Type", "Age", "Breast density (ACR)", "BIRADS", "Findings", "View",
          "Tags", "Machine", "Pathology Classification/ Follow up"]  # fmt: skip
ROWS = [
    ["P1_L_DM_CC ", 1, "L", "DM", 50, "C", "4", "mass", "CC", "", 1, "Malignant"],
    ["P1_L_CM_CC", 1, "L", "CESM", 50, "_", "4", "mass", "CC", "", 1, "Malignant"],
    ["P2_R_DM_MLO", 2, "R", "DM", 61, "_", "5$2", "mass$calc", "MLO", "", 2, "Malignant"],
    ["P2_R_DM_CC", 2, "R", "DM", 61, "B", "2$1", "mass", "CC", "", 2, "Benign"],
    ["P3_L_DM_CC", 3, "L", "DM", 44, "A", "_", "", "CC", "", 2, "Normal"],
]
POLYGON = {"name": "polygon", "all_points_x": [60, 99, 99, 60], "all_points_y": [100, 100, 119, 119]}
ELLIPSE = {"name": "ellipse", "cx": 100, "cy": 200, "rx": 20, "ry": 10}
CIRCLE = {"name": "circle", "cx": 100, "cy": 300, "r": 12}
POINT = {"name": "point", "cx": 10, "cy": 20}
REGIONS = [
    ("P1_L_DM_CC .jpg", POLYGON), ("P1_L_DM_CC.jpg", POINT), ("P1_L_CM_CC.jpg", CIRCLE),
    ("P2_R_DM_MLO.jpg", ELLIPSE), ("P2_R_DM_MLO.jpg", CIRCLE), ("P2_R_DM_CC.jpg", ELLIPSE), ("P2_R_DM_CC.jpg", ELLIPSE),
    ("P3_L_DM_CC.jpg", None),
]  # fmt: skip


def write_table(folder, rows=ROWS):
    with (folder / "Radiology-manual-annotations.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([HEADER, *rows])


def write_regions(folder, regions=REGIONS):
    with (folder / "Radiology_hand_drawn_segmentations_v2.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["#filename", "file_size", "file_attributes", "region_count", "region_id",
                         "region_shape_attributes", "region_attributes"])  # fmt: skip
        for number, (file, shape) in enumerate(regions):
            writer.writerow([file, 1, "{}", 1, number, json.dumps(shape or {}), "{}"])


@pytest.fixture
def source(tmp_path):
    """A miniature of the set: the tables, low energy and recombined images in their folders."""
    root = tmp_path / "PKG - CDD-CESM"
    low, other = (root / "CDD-CESM" / f"{kind} images of CDD-CESM" for kind in ("Low energy", "Subtracted"))
    low.mkdir(parents=True)
    other.mkdir()
    image = half_ellipse()[0]
    for number, (name, *_) in enumerate(ROWS):
        pixels = (image * 0.2 + number).clip(0, 255).astype(np.uint8)
        assert cv2.imwrite(str((other if "_CM_" in name else low) / f"{name.strip()}.jpg"), pixels)
    (low / "P1_L_DM_CC.jpg").rename(low / "P1_L_DM_CC .jpg")
    write_table(root)
    write_regions(root)
    return root


def listed(source, **options):
    converter = CddCesm(source, **options)
    return {image.key: image for image in converter.images()}, converter


def test_low_energy_images(source):
    found, converter = listed(source)
    assert sorted(found) == ["P1/P1_L_DM_CC", "P2/P2_R_DM_CC", "P2/P2_R_DM_MLO", "P3/P3_L_DM_CC"]
    image = found["P1/P1_L_DM_CC"]
    assert (image.patient_id, image.exam_id, image.laterality, image.view) == ("P1", "P1_DM", "L", "CC")
    assert (image.birads, image.density, image.labels) == ("4", "C", {"benign": None, "malignant": 1})
    assert image.extra == {"image_kind": "low energy"}
    (lesion,) = image.annotations
    assert (lesion.category, lesion.bbox, lesion.pathology) == ("malignant", (60, 100, 40, 20), "Malignant")
    assert lesion.segmentation == [[60.5, 100.5, 99.5, 100.5, 99.5, 119.5, 60.5, 119.5]]
    assert found["P3/P3_L_DM_CC"].labels == {"benign": 0, "malignant": 0}
    assert found["P3/P3_L_DM_CC"].birads is None
    assert [why.rsplit(": ")[-1] for _, why in converter.skipped] == ["region without an area", "the same region again"]


def test_ellipses_and_what_a_benign_image_has(source):
    (lesion,) = listed(source)[0]["P2/P2_R_DM_CC"].annotations
    assert (lesion.category, lesion.bbox) == ("benign", (80.5, 190.5, 40, 20))
    assert len(lesion.segmentation[0]) == 64


def test_which_of_several_regions_is_the_cancer_is_unknown(source):
    image = listed(source)[0]["P2/P2_R_DM_MLO"]
    assert [lesion.category for lesion in image.annotations] == ["unknown", "unknown"]
    assert (image.labels, image.birads) == ({"benign": None, "malignant": 1}, "5")
    # The density stands in the row of the other view.
    assert image.density == "B"


def test_recombined_images_are_kept_apart(source):
    found, _ = listed(source, energy="recombined")
    image = found.pop("P1/P1_L_CM_CC")
    assert found == {}
    assert (image.exam_id, image.patient_id, image.extra) == ("P1_CM", "P1", {"image_kind": "recombined"})
    assert (image.density, image.annotations[0].bbox) == ("C", (88.5, 288.5, 24, 24))
    assert len(listed(source, energy="both")[0]) == 5


def test_prepared(source, tmp_path):
    result = prepare(CddCesm(source), tmp_path / "out", PrepareOptions(fractions=(("train", 1.0),), progress=False))
    assert result.errors == []
    assert result.counts["train"] == {"images": 4, "patients": 3, "positive": 2, "annotations": 2}
    data = json.loads(result.files[0].read_text())
    images = {image["file_name"]: image for image in data["images"]}
    assert images["P2/P2_R_DM_MLO.png"]["unassessed_boxes"] == [[80.5, 190.5, 40, 20], [88.5, 288.5, 24, 24]]


def test_the_workbook(source):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.title = "mass_description"
    sheet = book.create_sheet("all")
    for row in [HEADER, *ROWS]:
        sheet.append(row)
    book.save(source / "Radiology-manual-annotations.xlsx")
    (source / "Radiology-manual-annotations.csv").unlink()
    assert len(listed(source)[0]) == 4


def test_files_and_rows_without_each_other(source):
    write_table(source, [*ROWS[:-1], ["P9_L_DM_CC", 9, "L", "DM", 44, "A", "1", "", "CC", "", 2, "Normal"]])
    write_regions(source, REGIONS[:-1])
    _, converter = listed(source)
    assert ("P9_L_DM_CC", "in Radiology-manual-annotations.csv, but there is no such image") in converter.skipped
    name = "CDD-CESM/Low energy images of CDD-CESM/P3_L_DM_CC.jpg"
    assert (name, "not in Radiology-manual-annotations.csv") in converter.skipped


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (["P1-L-CC", 1, "L", "DM", 50, "C", "4", "", "CC", "", 1, "Benign"], "line 2: Image_name 'P1-L-CC' must read"),
        (["P1_L_DM_CC", 1, "R", "DM", 50, "C", "4", "", "CC", "", 1, "Benign"], "line 2: .*Side 'R'.* do not fit"),
        (["P1_L_DM_CC", 1, "L", "CESM", 50, "C", "4", "", "CC", "", 1, "Benign"], "Type 'CESM'.* do not fit"),
        (["P1_L_DM_CC", 1, "L", "DM", 50, "C", "4", "", "CC", "", 1, "Cancer"], "'Cancer' must be one of Normal"),
        (["P1_L_DM_CC", 1, "L", "DM", 50, "C", "4$x", "", "CC", "", 1, "Benign"], "BIRADS 'x' is no BI-RADS .*joined"),
    ],
)  # fmt: skip
def test_wrong_rows(source, row, message):
    write_table(source, [row, *ROWS[1:]])
    with pytest.raises(ConverterError, match=message):
        listed(source)


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (("P7_L_DM_CC.jpg", POLYGON), "line 2: filename 'P7_L_DM_CC.jpg' is no image of the other table"),
        (("P1_L_DM_CC.jpg", {"name": "polygon"}), "line 2: region_shape_attributes .* is no shape"),
        (("P1_L_DM_CC.jpg", {"name": "star"}), "unknown shape 'star'"),
    ],
)
def test_wrong_regions(source, region, message):
    write_regions(source, [region])
    with pytest.raises(ConverterError, match=message):
        listed(source)


def test_wrong_options(source, tmp_path):
    with pytest.raises(ConverterError, match="energy 'high' must be one of low, recombined, both"):
        CddCesm(source, energy="high")
    with pytest.raises(FileNotFoundError, match="no Radiology-manual-annotations"):
        list(CddCesm(tmp_path).images())
