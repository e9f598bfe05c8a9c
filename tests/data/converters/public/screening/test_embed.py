import argparse
import json

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.screening.embed import Embed, read_boxes
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

CLINICAL = ",empi_anon,acc_anon,cohort_num,study_date_anon,desc,numfind,side,asses,tissueden,path_severity,bside\n"
METADATA = (
    ",empi_anon,acc_anon,study_date_anon,anon_dicom_path,png_filename,StudyDescription,FinalImageType,"
    "ImageLateralityFinal,ViewPosition,spot_mag,num_roi,ROI_coords,match_level,Rows,Columns,BreastImplantPresent\n"
)
SCREEN, DIAGNOSTIC = "MG Screening Bilateral w/CAD", "MG Diagnostic Left w/CAD"
FINDINGS = [
    # Patient 11: a screening exam with an open finding on the left, then the diagnostic exam with its biopsy.
    (11, 22, SCREEN, 1, "L", "A", 2, "", ""),
    (11, 22, SCREEN, 2, "R", "N", 2, "", ""),
    (11, 23, DIAGNOSTIC, 1, "L", "S", 2, "0.0", "L"),
    # Patient 12: nothing, in a row for both breasts; a benign finding a year later.
    (12, 31, SCREEN, 1, "", "N", 4, "", ""),
    (12, 32, SCREEN, 1, "R", "B", 4, "", ""),
    (12, 32, SCREEN, 2, "L", "N", 4, "", ""),
    # Patient 13: two findings of the same breast, one malignant, one benign.
    (13, 41, DIAGNOSTIC, 1, "R", "M", 3, "1.0", "R"),
    (13, 41, DIAGNOSTIC, 2, "R", "S", 3, "4.0", "R"),
]
BOX, TWO = "[[100, 50, 130, 90]]", "((100, 50, 130, 90), (200, 10, 220, 30))"
FILES = [
    # Patient, exam, name, type, side, view, spot, boxes, levels.
    (11, 22, "a1", "2D", "L", "CC", "", BOX, "[1]"),
    (11, 22, "a2", "cview", "L", "CC", "", BOX, "[2]"),
    (11, 22, "a3", "2D", "R", "MLO", "", "[]", ""),
    (11, 23, "b1", "2D", "L", "CC", "", BOX, "[1]"),
    (11, 23, "b2", "2D", "L", "ML", "1.0", "", ""),
    (12, 31, "c1", "2D", "L", "MLO", "", "", ""),
    (12, 32, "d1", "2D", "R", "CC", "", TWO, "[1, 2]"),
    (12, 32, "d2", "3D", "R", "CC", "", "", ""),
    (13, 41, "e1", "2D", "R", "CC", "", BOX, "[1]"),
    (14, 51, "f1", "2D", "L", "CC", "", "", ""),
]
MAKERS = "/mnt/NAS2/mammo/anon_dicom/"


def relative(patient, exam, name):
    return f"cohort_1/{patient}/1.2.{exam}/{name}.dcm"


def write_tables(folder, findings=FINDINGS, files=FILES, reduced=""):
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number, (patient, exam, desc, find, side, asses, density, severity, bside) in enumerate(findings):
        lines.append(
            f"{number},{patient},{exam},1,2015-01-01,{desc},{find},{side},{asses},{density},{severity},{bside}\n"
        )
    (folder / f"EMBED_OpenData_clinical{reduced}.csv").write_text(CLINICAL + "".join(lines))
    lines = []
    for number, (patient, exam, name, kind, side, view, spot, boxes, levels) in enumerate(files):
        count = boxes.count("100") + boxes.count("200")
        path = MAKERS + relative(patient, exam, name)
        described = SCREEN if exam in (22, 31, 32, 51) else DIAGNOSTIC
        lines.append(
            f"{number},{patient},{exam},2015-01-01,{path},hash_{name}.png,{described},{kind},{side},{view},{spot},"
            f'{count},"{boxes}","{levels}",400,300,{"YES" if patient == 14 else ""}\n'
        )
    (folder / f"EMBED_OpenData_metadata{reduced}.csv").write_text(METADATA + "".join(lines))


@pytest.fixture
def source(tmp_path):
    write_tables(tmp_path / "tables")
    for number, (patient, exam, name, _, side, *_) in enumerate(FILES):
        pixels = half_ellipse(side="left" if side == "L" else "right")[0].astype(np.uint16) + number
        write_dicom(tmp_path / "images" / relative(patient, exam, name), pixels)
    return tmp_path


def test_prepared(source, tmp_path):
    converter = Embed(source)
    result = prepare(converter, tmp_path / "out", PrepareOptions(fractions=(("train", 1),), progress=False))
    assert result.errors == []
    data = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    images = {image["file_name"]: image for image in data["images"]}
    assert list(images) == [
        "11/22/a1.png",
        "11/22/a3.png",
        "11/23/b1.png",
        "12/31/c1.png",
        "12/32/d1.png",
        "13/41/e1.png",
    ]
    labels = {name[-6:-4]: (i["labels"]["benign"], i["labels"]["malignant"]) for name, i in images.items()}
    assert labels == {
        "a1": (None, None),  # BI-RADS 0 without pathology
        "a3": (0, 0),
        "b1": (None, 1),
        "c1": (0, 0),
        "d1": (1, 0),
        "e1": (None, 1),
    }
    # Corners are ymin, xmin, ymax, xmax.
    assert [(a["category_id"], a["bbox"], a["match_level"]) for a in data["annotations"]] == [
        (2, [50, 100, 40, 30], 1),
        (1, [50, 100, 40, 30], 1),
        (1, [10, 200, 20, 20], 2),
    ]
    # Its box may be the malignant finding or the benign one.
    assert (
        images["13/41/e1.png"]["unassessed_boxes"] == images["11/22/a1.png"]["unassessed_boxes"] == [[50, 100, 40, 30]]
    )
    first = images["11/22/a1.png"]
    assert (first["patient_id"], first["exam_id"], first["birads"], first["density"]) == ("11", "22", "0", "2")
    assert (first["image_type"], first["exam_description"]) == ("2d", SCREEN)
    assert dict(converter.skipped) == {
        relative(11, 22, "a2"): "image type cview",
        relative(11, 23, "b2"): "spot or magnified view",
        relative(12, 32, "d2"): "image type 3D",
        relative(14, 51, "f1"): "implant",
    }


def test_choices(source):
    both = Embed(source, image_types=["2d", "c-view"], all_views=True, implants=True)
    images = {image.path.stem: image for image in both.images()}
    assert sorted(images) == ["a1", "a2", "a3", "b1", "b2", "c1", "d1", "e1", "f1"]
    # No row of the clinical table for it.
    assert images["f1"].labels == {"benign": None, "malignant": None}
    assert [i.path.stem for i in Embed(source, exams="diagnostic").images()] == ["b1", "e1"]
    assert [i.path.stem for i in Embed(source, exams="screening").images()] == ["a1", "a3", "c1", "d1"]
    with pytest.raises(ConverterError, match=r"image_types \['3d'\] must be among 2d, c-view"):
        Embed(source, image_types=["3d"])
    with pytest.raises(ConverterError, match="exams 'last' must be one of"):
        Embed(source, exams="last")


def test_png_copies_of_half_the_size(source):
    for path in sorted(source.rglob("*.dcm")):
        path.unlink()
    (source / "png").mkdir()
    pixels = (half_ellipse(200, 150)[0] * 16).astype(np.uint16)
    cv2.imwrite(str(source / "png" / "hash_b1.png"), pixels)
    (source / "images" / "cohort_1" / "12" / "1.2.32").mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(source / "images" / "cohort_1" / "12" / "1.2.32" / "d1.dcm.png"), pixels)
    converter = Embed(source)
    first, second = converter.images()
    assert (first.source_name, second.source_name) == ("png/hash_b1.png", "images/cohort_1/12/1.2.32/d1.dcm.png")
    complete = converter.complete(first, *converter.read(first))
    assert complete.annotations[0].bbox == (25, 50, 20, 15)
    assert ("cohort_1/11/1.2.22/a1.dcm", "no such DICOM file, and no PNG copy of it") in converter.skipped


def test_reduced_tables_come_first(source):
    write_tables(source, files=FILES[:1], reduced="_reduced")
    assert len(list(Embed(source).images())) == 6
    write_tables(source / "tables", files=FILES[:1], reduced="_reduced")
    assert len(list(Embed(source).images())) == 1


def test_more_boxes_promised_than_there_are(source):
    path = source / "tables" / "EMBED_OpenData_metadata.csv"
    path.write_text(path.read_text().replace('1,"[[100', '3,"[[100', 1))
    image = next(iter(Embed(source).images()))
    assert "line 2: num_roi 3, but 1 boxes in ROI_coords" in image.problem


def test_boxes():
    assert read_boxes("[[1, 2, 11, 22]]", "") == [(2, 1, 20, 10)]
    assert read_boxes("", "") == read_boxes("nan", "") == read_boxes("[]", "") == read_boxes("()", "") == []
    for text in ("[[1, 2, 3]]", "[1, 2, 3, 4]", "__import__('os')", "[["):
        with pytest.raises(ConverterError, match=r"line 9: ROI_coords .* must be a list of ymin, xmin, ymax, xmax"):
            read_boxes(text, "line 9")
    with pytest.raises(ConverterError, match="a box without an area"):
        read_boxes("[[10, 20, 5, 40]]", "line 9")


def test_tables_that_are_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tables/EMBED_OpenData_clinical\.csv: no such table"):
        list(Embed(tmp_path).images())


def test_a_path_out_of_the_folder(source):
    path = source / "tables" / "EMBED_OpenData_metadata.csv"
    path.write_text(path.read_text().replace("cohort_1/11/1.2.22/a1", "cohort_1/../../a1"))
    with pytest.raises(ConverterError, match=r"line 2: anon_dicom_path .* may lead out of its folder"):
        list(Embed(source).images())


def test_arguments(source):
    parser = argparse.ArgumentParser()
    Embed.add_arguments(parser)
    words = ["--source", str(source), "--image-types", "c-view", "--exams", "screening", "--all-views", "--voi", "none"]
    converter = Embed.from_arguments(parser.parse_args(words))
    parameters = converter.parameters()
    chosen = {key: parameters[key] for key in ("image_types", "exams", "all_views", "implants")}
    assert chosen == {"image_types": ["c-view"], "exams": "screening", "all_views": True, "implants": False}
    assert converter.read_options.voi == "none"


def test_boxes_have_the_kind_of_their_breasts_findings(source):
    table = source / "tables" / "EMBED_OpenData_clinical.csv"
    header, *lines = table.read_text().splitlines()
    shapes = ["O,I", ",", "X,", ",", "B,", ",", "R,", "A,"]
    rows = [f"{line},{shape}" for line, shape in zip(lines, shapes, strict=True)]
    table.write_text("\n".join([f"{header},massshape,calcfind", *rows]))
    found = {image.key: [lesion.extra for lesion in image.annotations] for image in Embed(source).images()}
    assert found["11/22/a1"] == [{"match_level": 1, "finding": ["calcification", "mass"]}]
    assert found["11/23/b1"] == [{"match_level": 1, "finding": ["mass"]}]
    assert [extra["finding"] for extra in found["12/32/d1"]] == [["asymmetry"], ["asymmetry"]]
    # Two findings of different kinds: which one the box is of is unknown.
    assert found["13/41/e1"] == [{"match_level": 1}]
