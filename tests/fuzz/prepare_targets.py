"""The tables and annotation files that ``prepare`` and ``prepare validate`` read, on miniatures of the public sets."""

from __future__ import annotations

import csv
import datetime
import io
import json
import plistlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

try:
    import openpyxl
except ImportError:  # an extra of the package
    openpyxl = None

from mammo_d2.cli.data import prepare
from tests.data.dicom_files import code, write_dicom
from tests.fuzz.cases import COCO, TABLE
from tests.fuzz.miniatures import SIZE, pixels, prepare_arguments, records, same_or_said, table_of, workbook
from tests.fuzz.mistakes import BOX_UNITS, WRONG, Mistake, file_mistakes, json_mistakes, table_mistakes
from tests.fuzz.mutations import changed_at
from tests.fuzz.targets import Target

RSNA = (
    "site_id,patient_id,image_id,laterality,view,age,cancer,biopsy,invasive,BIRADS,implant,density,machine_id,"
    "difficult_negative_case\n"
    "1,10,100,L,CC,50.0,1,1,1,0.0,0,C,29,False\n1,10,101,R,AT,50.0,0,1,0,,0,,29,False\n"
    "2,11,102,R,MLO,60.0,0,0,0,1.0,0,B,30,True\n"
)
RSNA_TYPES = {
    "site_id": "text", "patient_id": "id", "image_id": "id", "laterality": "side", "view": "view", "cancer": "label",
    "biopsy": "label", "BIRADS": "grade", "implant": "label", "density": "density", "difficult_negative_case": "text",
}  # fmt: skip
BREASTS = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,split\n"
    "s1,x,i1,L,CC,60,50,BI-RADS 5,DENSITY C,training\ns1,x,i2,L,MLO,60,50,BI-RADS 5,DENSITY C,training\n"
    "s2,x,i3,R,CC,60,50,BI-RADS 2,DENSITY B,test\n"
)
BREAST_TYPES = {
    "study_id": "id", "image_id": "id", "laterality": "side", "view_position": "view", "breast_birads": "grade",
    "breast_density": "density", "split": "split",
}  # fmt: skip
FINDINGS = (
    "study_id,series_id,image_id,laterality,view_position,height,width,breast_birads,breast_density,finding_categories,"
    "finding_birads,xmin,ymin,xmax,ymax,split\n"
    "s1,x,i1,L,CC,60,50,BI-RADS 5,DENSITY C,\"['Mass', 'Suspicious Calcification']\",BI-RADS 5,"
    "5.5,10,15.5,22,training\n"
    "s1,x,i1,L,CC,60,50,BI-RADS 5,DENSITY C,['Mass'],BI-RADS 3,10,20,14,28,training\n"
    "s2,x,i3,R,CC,60,50,BI-RADS 2,DENSITY B,['No Finding'],,,,,,test\n"
)
FINDING_TYPES = {
    "image_id": "id", "finding_birads": "grade", "finding_categories": "categories",
    **dict.fromkeys(("xmin", "ymin", "xmax", "ymax"), "number"),
}  # fmt: skip
CBIS = ["patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "abnormality type",
        "assessment", "pathology", "subtlety", "image file path", "cropped image file path",
        "ROI mask file path"]  # fmt: skip
CBIS_TYPES = {
    "patient_id": "id", "breast_density": "density", "left or right breast": "side", "image view": "view",
    "abnormality id": "text", "abnormality type": "category", "assessment": "grade", "pathology": "category",
    "image file path": "id", "cropped image file path": "id", "ROI mask file path": "id",
}  # fmt: skip
CLINICAL = (
    "ID1,LeftRight,Age,number,abnormality,classification,subtype\n"
    "D1-0001,L,44,2,calcification,Benign,\nD1-0001,R,44,2,mass,Malignant,Luminal A\nD1-0002,R,44,2,mass,Benign,\n"
)
CLINICAL_TYPES = {
    "ID1": "text", "LeftRight": "side", "abnormality": "text", "classification": "category", "subtype": "text",
}  # fmt: skip
INBREAST = (
    "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads\n"
    "removed;removed;L;MLO;2010;100; 2 ;4a\nremoved;removed;R;CC;2010;101; ;1\nremoved;removed;L;CC;2010;102;3;2\n"
)
INBREAST_TYPES = {
    "Laterality": "side", "View": "view", "File Name": "text", "ACR": "density", "Bi-Rads": "grade",
}  # fmt: skip
INBREAST_NAMES = ("100_aaa_MG_L_ML_ANON", "101_aaa_MG_R_CC_ANON", "102_bbb_MG_L_CC_ANON")
CONTOURS = {
    "Images": [
        {"NumberOfROIs": 1, "ROIs": [
            {"Name": "Mass", "NumberOfPoints": 3, "Point_px": ["(6.0, 10.0)", "(19.0, 10.0)", "(6.0, 29.0)"]},
        ]}
    ]
}  # fmt: skip
MIAS = (
    "        MIAS MiniMammographic Database\n1st column: MIAS database reference number.\n"
    "mdb001 G CIRC B 535 425 197\nmdb002 G NORM\nmdb005 F CIRC B 477 133 30\nmdb005 F CIRC M 500 168 26\n"
)


def make_rsna(folder: Path) -> None:
    (folder / "train.csv").write_text(RSNA)
    for number, name in enumerate(("10/100", "10/101", "11/102")):
        write_dicom(folder / "train_images" / f"{name}.dcm", pixels(number))


def make_vindr(folder: Path) -> None:
    (folder / "breast-level_annotations.csv").write_text(BREASTS)
    (folder / "finding_annotations.csv").write_text(FINDINGS)
    for number, name in enumerate(("s1/i1", "s1/i2", "s2/i3")):
        write_dicom(folder / "images" / f"{name}.dicom", pixels(number))


def make_cbis(folder: Path) -> None:
    rows = []
    for number, (patient, view, lesion) in enumerate((("P_1", "CC", 1), ("P_1", "CC", 2), ("P_2", "MLO", 1))):
        image = f"Mass-Training_{patient}_LEFT_{view}"
        roi = f"{image}_{lesion}"
        rows.append([patient, "3", "LEFT", view, str(lesion), "mass", "4", "MALIGNANT", "4",
                     f"{image}/1.2/1.3/000000.dcm", f"{roi}/1.4/1.5/000000.dcm",
                     f"{roi}/1.4/1.5/000001.dcm\n"])  # fmt: skip
        mask = np.zeros(SIZE, np.uint8)
        mask[10 + 20 * (lesion == 2) :, 5:12][:15] = 255
        write_dicom(folder / "CBIS-DDSM" / rows[-1][-3], pixels(len(patient + view) + number // 2), BitsStored=16)
        write_dicom(folder / "CBIS-DDSM" / rows[-1][-2], pixels(0)[:9, :13] % 251, BitsStored=16)
        write_dicom(folder / "CBIS-DDSM" / rows[-1][-1].strip(), mask)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([CBIS, *rows])
    (folder / "mass_case_description_train_set.csv").write_text(text.getvalue())


def make_cmmd(folder: Path, excel: bool = False) -> None:
    rows = list(csv.reader(io.StringIO(CLINICAL)))
    if excel:
        (folder / "CMMD_clinicaldata_revision.xlsx").write_bytes(workbook(rows))
    else:
        (folder / "CMMD_clinicaldata_revision.csv").write_text(CLINICAL)
    names = (("1-1", "D1-0001", "L"), ("1-2", "D1-0001", "R"), ("1-3", "D1-0002", "R"))
    for number, (name, patient, side) in enumerate(names):
        write_dicom(folder / patient / f"{name}.dcm", pixels(number), PatientID=patient, ImageLaterality=side,
                    ViewCodeSequence=[code("399162004", meaning="cranio-caudal")])  # fmt: skip


def make_inbreast(folder: Path) -> None:
    (folder / "INbreast.csv").write_text(INBREAST)
    for number, name in enumerate(INBREAST_NAMES):
        write_dicom(folder / "AllDICOMs" / f"{name}.dcm", pixels(number), PatientID="removed")
    (folder / "AllXML").mkdir()
    (folder / "AllXML" / "100.xml").write_bytes(plistlib.dumps(CONTOURS))


def make_mias(folder: Path) -> None:
    (folder / "Info.txt").write_text(MIAS)
    for number, name in enumerate(("mdb001", "mdb002", "mdb005")):
        # The films are 1024 pixels a side.
        cv2.imwrite(str(folder / f"{name}.png"), np.full((1024, 1024), 40 + number, np.uint8))


def make_images(folder: Path, truth: str = "csv") -> None:
    for number in (1, 2, 3):
        name = "2, b" if truth == "csv" and number == 2 else str(number)
        (folder / "p").mkdir(exist_ok=True)
        cv2.imwrite(str(folder / "p" / f"{name}.png"), pixels(number) * 16)
    (folder / "truth.csv").write_text(TABLE)
    (folder / "truth.json").write_text(json.dumps(COCO))


def make_dicoms(folder: Path) -> None:
    for number, name in enumerate(("p/1.png", "p/2, b.png")):
        write_dicom(folder / "dicom" / name.replace(".png", ".dcm"), pixels(number), PatientID=f"P{number}")
    (folder / "truth.csv").write_text(TABLE.replace(".png", ".dcm"))


def make_coco(folder: Path) -> None:
    make_images(folder, "json")
    (folder / "set" / "annotations").mkdir(parents=True)
    (folder / "p").rename(folder / "images_p")
    (folder / "set" / "images").mkdir()
    (folder / "images_p").rename(folder / "set" / "images" / "p")
    content = {**COCO, "images": [{**image, "patient_id": f"P{image['id']}"} for image in COCO["images"]]}
    (folder / "set" / "annotations" / "train.json").write_text(json.dumps(content))
    other = {**content, "images": [{**content["images"][0], "patient_id": "Q", "source": None}], "annotations": []}
    (folder / "set" / "annotations" / "test.json").write_text(json.dumps(other))


def workbook_mistakes(folder: Path) -> Iterator[Mistake]:
    """Of the Excel table: those of the CSV table that a workbook can hold, other types of cells, and damage."""
    yield from file_mistakes((folder / "CMMD_clinicaldata_revision.xlsx").read_bytes(), text=False)
    rows = list(csv.reader(io.StringIO(CLINICAL)))
    for mistake in table_mistakes(CLINICAL.encode(), CLINICAL_TYPES):
        texts = ("quotation", "delimiter", "no such file", "empty", "a folder", "cut in half", "another file")
        if mistake.kind == "encoding" or any(text in mistake.where for text in texts):
            continue
        lines = list(csv.reader(io.StringIO(mistake.content.decode())))  # type: ignore[union-attr]
        yield Mistake(mistake.kind, mistake.where, partial(workbook, lines),
                      mistake.bad and "cut" not in mistake.where)  # fmt: skip
    for value in (None, 1, 1.5, True, datetime.datetime(2020, 1, 1), "=1/0", "=A1"):
        for column, name in enumerate(rows[0]):
            changed = changed_at(rows, (2, column), value)
            bad = name in ("LeftRight", "classification")
            yield Mistake("type", f"cell {name}: {value!r}", partial(workbook, changed), bad)
    yield Mistake("missing", "no cells", partial(workbook, []), bad=True)
    yield Mistake("type", "a sheet before", partial(workbook, [["notes"]], table=rows), bad=True)
    yield Mistake("type", "a row before the header", partial(workbook, [["CMMD"], *rows]), bad=True)


def contour_mistakes(folder: Path) -> Iterator[Mistake]:
    """Of the XML of contours: values of its list, points, damaged XML."""
    data = (folder / "AllXML" / "100.xml").read_bytes()
    yield from (m for m in file_mistakes(data) if m.where not in ("no such file", "byte order mark"))
    points = CONTOURS["Images"][0]["ROIs"][0]["Point_px"]  # type: ignore[index]
    place = ("Images", 0, "ROIs", 0)
    for value in (*WRONG["number"], "", "6.0, 10.0", "(6.0 10.0)", "(nan, 1)", "(1e999, 1)", "(-5, 4)", "(500, 4)",
                  "(6.0, 10.0, 3.0)", "(6,0, 10,0)", 5, 5.0, True, [], {}, b"x"):  # fmt: skip
        changed = changed_at(CONTOURS, (*place, "Point_px"), [*points[:2], value])
        yield Mistake("NaN" if "nan" in str(value) else "type", f"point {value!r:.30}", plistlib.dumps(changed),
                      bad=value not in ("(-5, 4)", "(500, 4)"))  # fmt: skip
        for key in ("Name", "Point_px", "NumberOfPoints"):
            changed = changed_at(CONTOURS, (*place, key), value)
            yield Mistake(
                "type", f"{key} {value!r:.30}", plistlib.dumps(changed), bad=key == "Point_px" and value != []
            )
    for path in (("Images",), ("Images", 0), ("Images", 0, "ROIs"), place):
        for value in ("", "x", 0, [], {}, True):
            yield Mistake("type", f"{path} {value!r}", plistlib.dumps(changed_at(CONTOURS, path, value)),
                          bad=not isinstance(value, (list, dict)))  # fmt: skip
    region = CONTOURS["Images"][0]["ROIs"][0]  # type: ignore[index]
    twice = changed_at(CONTOURS, ("Images", 0, "ROIs"), [region, region])
    yield Mistake("duplicate", "a contour twice", plistlib.dumps(twice), bad=True)
    several = {**CONTOURS, "Images": CONTOURS["Images"] * 2}
    yield Mistake("duplicate", "two images", plistlib.dumps(several), bad=True)
    scaled = [f"({10 * 6.0}, {10 * 10.0})", "(190, 100)", "(60, 290)"]
    yield Mistake("unit", "other pixels", plistlib.dumps(changed_at(CONTOURS, (*place, "Point_px"), scaled)), bad=True)
    scaled = ["(0.12, 0.17)", "(0.38, 0.17)", "(0.12, 0.48)"]
    yield Mistake("unit", "fractions", plistlib.dumps(changed_at(CONTOURS, (*place, "Point_px"), scaled)), bad=True)


def mias_mistakes(folder: Path) -> Iterator[Mistake]:
    """Of Info.txt: every word of two rows with other values, rows twice, cut, contradicting."""
    data = MIAS.encode()
    yield from (m for m in file_mistakes(data) if m.where not in ("Latin-1", "cut in half"))
    lines = MIAS.splitlines()
    kinds = ("name", "text", "category", "category", "number", "number", "number")
    for number in (2, 3, 4, 5):
        words = lines[number].split()
        for place, kind in zip(range(len(words)), kinds, strict=False):
            wrong = WRONG.get(kind, ()) if kind != "name" else ("mdb999999", "../mdb001", "MDB001x")
            for value in dict.fromkeys((*wrong, *ANY_WORDS)):
                changed = " ".join([*words[:place], value, *words[place + 1 :]])
                text = "\n".join([*lines[:number], changed, *lines[number + 1 :]])
                kind_ = "NaN" if value.lower() == "nan" else "type"
                bad = value in wrong and " " not in value
                yield Mistake(kind_, f"line {number + 1}, word {place + 1}: {value!r:.30}", text.encode(), bad)
        for cut in range(1, len(words)):
            text = "\n".join([*lines[:number], " ".join(words[:cut]), *lines[number + 1 :]])
            yield Mistake("type", f"line {number + 1} cut after {cut}", text.encode(), bad=cut not in (4,))
        yield Mistake("duplicate", f"line {number + 1} twice", f"{MIAS}{lines[number]}\n".encode(), bad=True)
        yield Mistake("type", f"line {number + 1} with a word more",
                      MIAS.replace(lines[number], lines[number] + " 17").encode(), bad=True)  # fmt: skip
    yield Mistake("duplicate", "normal and with a lesion", f"{MIAS}mdb001 G NORM\n".encode(), bad=True)
    yield Mistake("duplicate", "a lesion and normal", f"{MIAS}mdb002 G CIRC B 100 200 30\n".encode(), bad=True)
    yield Mistake("type", "normal with a place",
                  MIAS.replace("mdb001 G CIRC B", "mdb001 G NORM B").encode(), bad=True)  # fmt: skip


ANY_WORDS = ("0", "1", "-1", "0.5", "1024", "100000", "1e3", "=1+1", "NULL", "x" * 300)


def truth_mistakes(folder: Path, text: str = TABLE) -> Iterator[Mistake]:
    """Of a truth table: those of any table, and boxes in other units."""
    types = {
        "file": "id", "patient_id": "text", "exam_id": "text", "laterality": "side", "view": "view",
        "category": "category", **dict.fromkeys(("x", "y", "width", "height"), "number"),
        "malignant": "label", "benign": "label", "split": "split",
    }  # fmt: skip
    yield from table_mistakes(text.encode(), types, ("file", "x", "y", "width", "height", "category", "patient_id"))
    box = [5, 5, 10.5, 10]
    for name, change in BOX_UNITS.items():
        new = ",".join(f"{value:g}" for value in change(box, SIZE))
        yield Mistake("unit", name, text.replace("5,5,10.5,10", new).encode(), bad=True)
    lines = text.splitlines()
    again = lines[1].replace("5,5,10.5,10", "20,20,5,5").replace(",1,0,train", ",0,0,train")
    yield Mistake("duplicate", "a second lesion with other labels", f"{text}{again}\n".encode(), bad=True)
    again = lines[1].replace("p/1", "./p/1")
    yield Mistake("duplicate", "the row with another spelling of the file", f"{text}{again}\n".encode(), bad=True)
    yield Mistake("type", "labels against the box", text.replace(",1,0,train", ",0,0,train").encode(), bad=True)


def coco_mistakes(folder: Path, content: Any = COCO) -> Iterator[Mistake]:
    """Of a COCO file: those of any JSON, boxes in other units, entries twice, labels that mean something else."""
    yield from json_mistakes(content)
    box = content["annotations"][0]["bbox"]
    for name, change in BOX_UNITS.items():
        yield Mistake("unit", name, json.dumps(changed_at(content, ("annotations", 0, "bbox"), change(box, SIZE)))
                      .encode(), bad=True)  # fmt: skip
    labelled = "labels" in content["images"][0]
    for labels in (
        ()
        if not labelled
        else ({"malignant": 2, "benign": 0}, {"malignant": 4}, {"malignant": 0.5}, {"malignant": True})
    ):
        changed = changed_at(content, ("images", 0, "labels"), labels)
        yield Mistake("type", f"labels {labels}", json.dumps(changed).encode(), bad=True)
    again = {**content["annotations"][0], "id": 77}
    twice = {**content, "annotations": [*content["annotations"], again]}
    yield Mistake("duplicate", "the same box with another id", json.dumps(twice).encode(), bad=True)
    again = {**content["images"][0], "id": 77, "file_name": "./" + content["images"][0]["file_name"]}
    twice = {**content, "images": [*content["images"], again]}
    yield Mistake("duplicate", "the same file in another spelling", json.dumps(twice).encode(), bad=True)
    text = json.dumps(content)
    for key in ("bbox", "labels", "category_id"):
        value = '[1, 1, 2, 2], "bbox": ' if key == "bbox" else '{"malignant": 0}, "labels": ' if key == "labels" else (
            '1, "category_id": ')  # fmt: skip
        yield Mistake("duplicate", f"key {key} twice in an object",
                      text.replace(f'"{key}": ', f'"{key}": {value}', 1).encode(), bad=True)  # fmt: skip


def targets() -> list[Target]:
    """All of them."""
    named = ("none of", "were skipped", "no CMMD_clinicaldata")  # messages with images, not the table
    prepared = partial(Target, run=prepare.run, result=records, plausible=same_or_said, named=named)
    source = ("--source", "{}")
    json_truth = ("images", *source, "--truth", "{}/truth.json")
    found = [
        prepared("prepare rsna", "train.csv", make_rsna, arguments=prepare_arguments("rsna", *source),
                 mistakes=table_of("train.csv", RSNA_TYPES, ("patient_id", "image_id"))),
        prepared("prepare vindr-mammo", "breast-level_annotations.csv", make_vindr,
                 arguments=prepare_arguments("vindr-mammo", *source),
                 mistakes=table_of("breast-level_annotations.csv", BREAST_TYPES, ("image_id", "study_id"))),
        prepared("prepare vindr-mammo", "finding_annotations.csv", make_vindr,
                 arguments=prepare_arguments("vindr-mammo", *source),
                 mistakes=table_of("finding_annotations.csv", FINDING_TYPES, ())),
        prepared("prepare cbis-ddsm", "mass_case_description_train_set.csv", make_cbis,
                 arguments=prepare_arguments("cbis-ddsm", *source),
                 mistakes=table_of("mass_case_description_train_set.csv", CBIS_TYPES, ())),
        prepared("prepare cmmd", "CMMD_clinicaldata_revision.csv", make_cmmd,
                 arguments=prepare_arguments("cmmd", *source),
                 mistakes=table_of("CMMD_clinicaldata_revision.csv", CLINICAL_TYPES, ())),
        prepared("prepare cmmd", "CMMD_clinicaldata_revision.xlsx", partial(make_cmmd, excel=True),
                 arguments=prepare_arguments("cmmd", *source), mistakes=workbook_mistakes),
        prepared("prepare inbreast", "INbreast.csv", make_inbreast, arguments=prepare_arguments("inbreast", *source),
                 mistakes=table_of("INbreast.csv", INBREAST_TYPES, ("File Name",), ";")),
        prepared("prepare inbreast", "AllXML/100.xml", make_inbreast, arguments=prepare_arguments("inbreast", *source),
                 mistakes=contour_mistakes),
        prepared("prepare mini-mias", "Info.txt", make_mias, mistakes=mias_mistakes,
                 arguments=prepare_arguments("mini-mias", *source, "--max-side", "64")),
        prepared("prepare images", "truth.csv", make_images, mistakes=truth_mistakes,
                 arguments=prepare_arguments("images", *source, "--truth", "{}/truth.csv")),
        prepared("prepare images", "truth.json", partial(make_images, truth="json"), mistakes=coco_mistakes,
                 arguments=prepare_arguments(*json_truth)),
        prepared("prepare dicom", "truth.csv", make_dicoms,
                 arguments=prepare_arguments("dicom", "--source", "{}/dicom", "--truth", "{}/truth.csv", "--keep-ids"),
                 mistakes=partial(truth_mistakes, text=TABLE.replace(".png", ".dcm"))),
        Target("prepare validate", "set/annotations/train.json", make_coco, prepare.run,
               prepare_arguments("validate", "{}/set"),
               lambda folder: coco_mistakes(folder, json.loads((folder / "set/annotations/train.json").read_text()))),
    ]  # fmt: skip
    return [target for target in found if openpyxl or not target.file.endswith(".xlsx")]
