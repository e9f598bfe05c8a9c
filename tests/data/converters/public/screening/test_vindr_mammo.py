import json

import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.screening.vindr_mammo import VindrMammo
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

BREASTS = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split\n"
    "s1,x,i1,L,CC,400,300,BI-RADS 5,DENSITY C,training\n"
    "s1,x,i2,L,MLO,400,300,BI-RADS 5,DENSITY C,training\n"
    "s2,x,i3,R,CC,400,300,BI-RADS 2,DENSITY B,test\n"
)
FINDINGS = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,finding_categories,"
    "finding_birads,xmin,ymin,xmax,ymax,split\n"
    "s1,x,i1,L,CC,400,300,BI-RADS 5,DENSITY C,\"['Mass', 'Suspicious Calcification']\",BI-RADS 5,"
    "60.5,100,100.5,120,training\n"
    "s1,x,i1,L,CC,400,300,BI-RADS 5,DENSITY C,['Mass'],BI-RADS 3,10,200,40,220,training\n"
    "s2,x,i3,R,CC,400,300,BI-RADS 2,DENSITY B,['No Finding'],,,,,,test\n"
)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "breast-level_annotations.csv").write_text(BREASTS)
    (tmp_path / "finding_annotations.csv").write_text(FINDINGS)
    for name in ("s1/i1", "s1/i2", "s2/i3"):
        pixels = (half_ellipse()[0] + len(name) + ord(name[-1])).astype(np.uint16)
        write_dicom(tmp_path / "images" / f"{name}.dicom", pixels)
    return tmp_path


def test_prepared(source):
    result = prepare(VindrMammo(source), source / "out", PrepareOptions(progress=False))
    assert result.errors == []
    train = json.loads((source / "out" / "annotations" / "train.json").read_text())
    test = json.loads((source / "out" / "annotations" / "test.json").read_text())
    assert [i["file_name"] for i in train["images"]] == ["s1/i1.png", "s1/i2.png"]
    first, second = train["annotations"]
    assert (first["category_id"], first["bbox"], first["birads"]) == (2, [60.5, 100, 40, 20], "5")
    assert first["finding"] == ["Mass", "Suspicious Calcification"]
    assert (second["category_id"], second["bbox"]) == (1, [10, 200, 30, 20])
    image = test["images"][0]
    assert (image["patient_id"], image["laterality"], image["view"], image["density"]) == ("s2", "R", "CC", "B")
    # BI-RADS 2: a benign finding that nobody boxed.
    assert (image["labels"], test["annotations"]) == ({"benign": 1, "malignant": 0}, [])


@pytest.mark.parametrize("grade", ["", "BI-RADS 0"])
def test_boxes_without_an_assessment_are_neither_benign_nor_malignant(source, grade):
    rows = (
        f"s1,x,i1,L,CC,400,300,BI-RADS 5,DENSITY C,\"['Skin Thickening', 'Nipple Retraction']\",{grade},"
        "0,100,50,140,training\n"
        f"s2,x,i3,R,CC,400,300,BI-RADS 2,DENSITY B,['Suspicious Lymph Node'],{grade},20,30,40,50,test\n"
    )
    (source / "finding_annotations.csv").write_text(FINDINGS + rows)
    converter = VindrMammo(source)
    options = PrepareOptions(image=ImageOptions(max_side=200), progress=False)
    result = prepare(converter, source / "out", options)
    assert result.errors == []
    train = json.loads((source / "out" / "annotations" / "train.json").read_text())
    test = json.loads((source / "out" / "annotations" / "test.json").read_text())
    assert [a["image_id"] for a in train["annotations"]] == [1, 1]
    # Half the size.
    first, second = train["images"]
    assert first["unassessed_boxes"] == [[0, 50, 25, 20]]
    assert first["unassessed_findings"] == [["Skin Thickening", "Nipple Retraction"]]
    assert "unassessed_boxes" not in second
    assert (test["images"][0]["unassessed_boxes"], test["annotations"]) == ([[10, 15, 10, 10]], [])
    assert test["images"][0]["labels"] == {"benign": 1, "malignant": 0}
    assert converter.skipped == [
        (
            "finding_annotations.csv",
            "line 5: Skin Thickening, Nipple Retraction without an assessment; listed as unassessed",
        ),
        ("finding_annotations.csv", "line 6: Suspicious Lymph Node without an assessment; listed as unassessed"),
    ]


def test_other_threshold(source):
    lesions = next(iter(VindrMammo(source, malignant_from=3).images())).annotations
    assert [a.category for a in lesions] == ["malignant", "malignant"]


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("breast-level_annotations.csv", "training", "validation", "line 2: split 'validation'"),
        ("breast-level_annotations.csv", "BI-RADS 2", "BI-RADS x", "line 4: 'BI-RADS x' is no BI-RADS"),
        ("finding_annotations.csv", "60.5", "sixty", "line 2: box"),
        ("finding_annotations.csv", "60.5", "nan", "line 2: box .* must be left, top, right and bottom"),
        ("finding_annotations.csv", "60.5", "100.5", "line 2: box .* must be left, top, right and bottom"),
        ("finding_annotations.csv", "['Mass'],", "(" * 5000 + ",", "line 3: box .* or categories"),
    ],
)
def test_bad_rows(source, name, old, new, message):
    path = source / name
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(ConverterError, match=message):
        list(VindrMammo(source).images())


def findings(source, old, new):
    path = source / "finding_annotations.csv"
    path.write_text(path.read_text().replace(old, new))
    converter = VindrMammo(source)
    return list(converter.images()), converter.skipped


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("s1,x,i1,L,CC,400,300,BI-RADS 5,DENSITY C,['Mass']", "s1,x,i9,L,CC,400,300,BI-RADS 5,DENSITY C,['Mass']",
         "findings of 1 image.* not in this table, e.g. image_id 'i9'"),
        ("BI-RADS 3,10,200,40,220", "BI-RADS 3,,,,", r"line 3: .*'Mass'.* without a box"),
        ("['Mass'],", "['No Finding'],", r"line 3: a box, but .*No Finding"),
    ],
)  # fmt: skip
def test_findings_that_would_be_lost(source, old, new, message):
    with pytest.raises(ConverterError, match=message):
        findings(source, old, new)


def test_a_finding_that_is_there_twice_counts_once(source):
    row = "s1,x,i1,L,CC,400,300,BI-RADS 5,DENSITY C,['Mass'],BI-RADS 3,10,200,40,220,training\n"
    images, skipped = findings(source, row, row * 2)
    assert len(images[0].annotations) == 2
    assert skipped == [("finding_annotations.csv", "line 4: the finding of line 3 again")]


def test_an_image_that_is_there_twice(source):
    path = source / "breast-level_annotations.csv"
    path.write_text(BREASTS + BREASTS.splitlines()[1].replace("BI-RADS 5", "BI-RADS 1") + "\n")
    with pytest.raises(ConverterError, match=r"line 5: image_id 'i1' is there twice \(line 2\)"):
        list(VindrMammo(source).images())
