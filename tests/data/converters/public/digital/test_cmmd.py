import sys

import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.digital.cmmd import Cmmd
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import code, write_dicom

TABLE = (
    "ID1,LeftRight,Age,number,abnormality,classification,subtype\n"
    "D1-0001,L,44,2,calcification,Benign,\nD1-0001,R,44,2,mass,Malignant,Luminal A\nD1-0001,R,44,2,mass,Benign,\n"
)


@pytest.fixture
def source(tmp_path):
    (tmp_path / "CMMD_clinicaldata_revision.csv").write_text(TABLE)
    pixels = half_ellipse()[0].astype(np.uint16)
    for name, patient, side in (("1-1", "D1-0001", "L"), ("1-2", "D1-0001", "R"), ("1-3", "D1-0002", "R")):
        write_dicom(tmp_path / patient / f"{name}.dcm", pixels, PatientID=patient, ImageLaterality=side,
                    ViewCodeSequence=[code("399162004", meaning="cranio-caudal")])  # fmt: skip
    return tmp_path


def test_rows_meet_files_by_patient_and_side(source):
    converter = Cmmd(source)
    left, right = converter.images()
    assert (left.key, left.view, left.labels) == ("D1-0001/L_CC_1-1", "CC", {"benign": 1, "malignant": 0})
    # The malignant row wins.
    assert (right.labels, right.extra) == (
        {"benign": None, "malignant": 1}, {"abnormality": "mass", "subtype": "Luminal A"},
    )  # fmt: skip
    assert converter.skipped == [("D1-0002/1-3.dcm", "no row for patient D1-0002, side R")]


def test_bad_tables(source, monkeypatch):
    path = source / "CMMD_clinicaldata_revision.csv"
    path.write_text(TABLE.replace("Malignant", "Unclear"))
    with pytest.raises(ConverterError, match="line 3: classification 'Unclear'"):
        list(Cmmd(source).images())
    path.unlink()
    with pytest.raises(FileNotFoundError, match="no CMMD_clinicaldata_revision"):
        list(Cmmd(source).images())
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (source / "clinical.xlsx").write_bytes(b"x")
    with pytest.raises(ConverterError, match="needs openpyxl"):
        list(Cmmd(source).images())


@pytest.mark.parametrize("patient", ["../../../x", "ABSOLUTE"])
def test_a_patient_id_that_is_a_path_writes_nothing_outside(source, tmp_path_factory, patient):
    outside = tmp_path_factory.mktemp("outside")
    patient = str(outside / "x") if patient == "ABSOLUTE" else patient
    (source / "CMMD_clinicaldata_revision.csv").write_text(
        TABLE.replace("D1-0002", patient) + f"{patient},R,4,2,mass,Benign,\n"
    )
    write_dicom(source / "D1-0002" / "1-3.dcm", half_ellipse()[0].astype(np.uint16), PatientID=patient,
                ImageLaterality="R")  # fmt: skip
    out = outside / "a" / "b" / "out"
    result = prepare(Cmmd(source), out, PrepareOptions(progress=False))
    (issue,) = result.errors
    assert f"1-3.dcm: the image would be called '{patient}/R_None_1-3', which" in issue.problem
    assert sum(n["images"] for n in result.counts.values()) == 2
    assert [p for p in outside.rglob("*") if p.is_file() and out not in p.parents] == []


@pytest.mark.parametrize("content", [b"", b"x", b"PK\x03\x04" + bytes(90)])
def test_a_damaged_workbook(source, content):
    pytest.importorskip("openpyxl")
    (source / "CMMD_clinicaldata_revision.csv").unlink()
    (source / "clinical.xlsx").write_bytes(content)
    with pytest.raises(ConverterError, match=r"clinical\.xlsx: not an Excel workbook"):
        list(Cmmd(source).images())
