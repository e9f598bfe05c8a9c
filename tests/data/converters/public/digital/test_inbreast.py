import json
import plistlib

import numpy as np
import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.digital.inbreast import Inbreast, read_contours
from mammo_d2.data.loading.samplers import split_pools
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.special_images import of_visits
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

TABLE = (
    "Patient ID;Patient age;Laterality;View;Acquisition date;File Name;ACR;Bi-Rads\n"
    "removed;removed;L;MLO;2010;100; 2 ;4a\n"
    "removed;removed;R;CC;2010;101; ;1\n"
    "removed;removed;L;CC;2010;102;3;2\n"
    "removed;removed;R;MLO;2010;103;3;5\n"
)
NAMES = [
    "100_aaa_MG_L_ML_ANON",
    "101_aaa_MG_R_CC_ANON",
    "102_bbb_MG_L_CC_ANON",
    "103_ccc_MG_R_ML_ANON",
    "104_ccc_MG_L_CC_ANON",
]


def contours(*regions):
    rois = [{"Name": n, "NumberOfPoints": len(p), "Point_px": [f"({x}, {y})" for x, y in p]} for n, p in regions]
    return plistlib.dumps({"Images": [{"NumberOfROIs": len(rois), "ROIs": rois}]})


@pytest.fixture
def source(tmp_path):
    (tmp_path / "INbreast.csv").write_text(TABLE)
    (tmp_path / "AllXML").mkdir()
    for name in NAMES:
        write_dicom(tmp_path / "AllDICOMs" / f"{name}.dcm", half_ellipse()[0].astype(np.uint16), PatientID="removed")
    triangle = [(60.0, 100.0), (99.0, 100.0), (60.0, 119.0)]
    (tmp_path / "AllXML" / "100.xml").write_bytes(
        contours(("Espiculated Region ", triangle), ("Calcification", [(5.0, 5.0)]), ("Point 1", []))
    )
    (tmp_path / "AllXML" / "102.xml").write_bytes(contours(("Calcifications", [(1.0, 2.0)])))
    return tmp_path


def test_facts_and_contours(source):
    converter = Inbreast(source)
    found = {i.key: i for i in converter.images()}
    assert sorted(found) == ["100", "101", "102", "103"]
    image = found["100"]
    assert (image.patient_id, image.laterality, image.view, image.birads, image.density) == (
        "aaa",
        "L",
        "MLO",
        "4A",
        "2",
    )
    (lesion,) = image.annotations
    # Pixels 60..99 and 100..119 are covered.
    assert (lesion.category, lesion.bbox) == ("malignant", (60, 100, 40, 20))
    assert lesion.segmentation == [[60.5, 100.5, 99.5, 100.5, 60.5, 119.5]]
    assert lesion.extra == {"finding": "spiculated region"}
    assert image.labels == {"benign": None, "malignant": 1}
    assert found["101"].density is None
    assert found["101"].labels == {"benign": 0, "malignant": 0}
    # A benign single calcification has no area: no box, but the label is known.
    assert (found["102"].annotations, found["102"].labels) == ((), {"benign": 1, "malignant": 0})


def test_images_of_another_date_are_another_exam(source):
    table = TABLE.replace("L;MLO;2010;100", "L;MLO;201002;100").replace("R;CC;2010;101", "R;CC;200811;101")
    (source / "INbreast.csv").write_text(table.replace("L;CC;2010;102", "L;CC;unknown;102"))
    found = {image.key: image for image in Inbreast(source).images()}
    exams = {key: (image.patient_id, image.exam_id, image.exam_time) for key, image in found.items()}
    assert exams == {
        "100": ("aaa", "aaa_201002", "201002"),
        "101": ("aaa", "aaa_200811", "200811"),
        "102": ("bbb", "bbb", None),
        "103": ("ccc", "ccc_2010", "2010"),
    }
    kept, left = of_visits(list(found.values()), "first")
    assert [image.key for image in kept] == ["101", "102", "103"]
    assert [key for key, _ in left] == ["100"]


def test_tables_without_dates_have_one_exam_per_patient(source):
    lines = [";".join(line.split(";")[:4] + line.split(";")[5:]) for line in TABLE.splitlines()]
    (source / "INbreast.csv").write_text("\n".join(lines))
    assert {image.exam_id for image in Inbreast(source).images()} == {"aaa", "bbb", "ccc"}


def test_a_suspicious_image_without_a_contour_is_positive(source):
    """BI-RADS 5 without a contour: positive for methods that learn from image labels, not drawn for detectors."""
    found = {image.key: image for image in Inbreast(source).images()}
    assert (found["103"].annotations, found["103"].birads) == ((), "5")
    assert found["103"].labels == {"benign": None, "malignant": 1}
    records = [{"annotations": list(found[key].annotations), "labels": found[key].labels} for key in sorted(found)]
    pools = split_pools([{**r, "annotations": []} for r in records], ["benign", "malignant"])
    assert list(pools.severity) == [2, 0, 1, 2]
    assert (pools.negatives, 3 in pools.unlocalized, 3 in pools.located) == ([1], True, False)


def test_half_of_the_patients_for_training(source, tmp_path):
    """The paper's experiment: 50/50 by patient; both halves have images that count as positive."""
    options = PrepareOptions(progress=False, fractions=(("train", 0.5), ("val", 0.0), ("test", 0.5)))
    pixels = half_ellipse()[0].astype(np.uint16)
    for number, name in enumerate([*NAMES, "106_ddd_MG_L_CC_ANON", "107_eee_MG_L_CC_ANON"]):
        write_dicom(source / "AllDICOMs" / f"{name}.dcm", pixels + number, PatientID="removed")
    (source / "INbreast.csv").write_text(TABLE + "removed;r;L;CC;2010;106;3;6\nremoved;r;L;CC;2010;107;3;4b\n")
    prepare(Inbreast(source), tmp_path / "out", options)
    malignant = {}
    for split in ("train", "test"):
        content = json.loads((tmp_path / "out" / "annotations" / f"{split}.json").read_text())
        malignant[split] = [image["patient_id"] for image in content["images"] if image["labels"]["malignant"]]
    assert [len(patients) for patients in malignant.values()] == [2, 2]
    assert not set(malignant["train"]) & set(malignant["test"])


def test_what_is_left_out(source):
    converter = Inbreast(source, unlocated="drop")
    assert "103" not in {image.key for image in converter.images()}
    with pytest.raises(ConverterError, match="unlocated 'no' must be drop or keep"):
        Inbreast(source, unlocated="no")
    assert ("100 finding 2", "calcification of 1 points has no area") in converter.skipped
    assert ("103_ccc_MG_R_ML_ANON.dcm", "BI-RADS 5 without a contour") in converter.skipped
    assert ("104_ccc_MG_L_CC_ANON.dcm", "not in INbreast.csv") in converter.skipped


def test_prepares(source, tmp_path):
    result = prepare(Inbreast(source), tmp_path / "out", PrepareOptions(progress=False))
    assert result.errors == []
    assert sum(n["images"] for n in result.counts.values()) == 4


def test_bad_tables_and_contours(source):
    table = source / "INbreast.csv"
    table.write_text(TABLE.replace(";4a\n", ";four\n"))
    with pytest.raises(ConverterError, match="line 2: Bi-Rads 'four' is no BI-RADS"):
        list(Inbreast(source).images())
    table.write_text(TABLE.replace(";4a\n", "; \n"))
    with pytest.raises(ConverterError, match="line 2: Bi-Rads is empty"):
        list(Inbreast(source).images())
    xml = source / "AllXML" / "100.xml"
    xml.write_text("<plist>")
    with pytest.raises(ConverterError, match=r"100\.xml: not an OsiriX property list"):
        read_contours(xml)
    xml.write_bytes(plistlib.dumps({"Images": [{"ROIs": [{"Name": "Mass", "Point_px": ["1;2"]}]}]}))
    with pytest.raises(ConverterError, match=r"point '1;2' of 'Mass' must read \(x, y\)"):
        read_contours(xml)
    assert read_contours(source / "none.xml") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (plistlib.dumps({"Images": [{"ROIs": ["x"]}]}), "ROIs must be a list of dictionaries"),
        (plistlib.dumps({"Images": [{"ROIs": "ab"}]}), "ROIs must be a list of dictionaries"),
        (plistlib.dumps({"Images": [{"ROIs": [{"Point_px": 1}]}]}), "Point_px of None must be a list"),
        (plistlib.dumps({"Images": [{"ROIs": [{"Point_px": [1]}]}]}), "point 1 of None must read"),
        (b'<?xml version="1.0" encoding="foo"?><plist/>', "not an OsiriX property list"),
        (b'<?xml version="1.0"?><plist><date>x</date></plist>', "not an OsiriX property list"),
        (b'<?xml version="1.0"?><plist>' + b"<array>" * 20000 + b"</array>" * 20000 + b"</plist>", "not an OsiriX"),
    ],
)
def test_damaged_contours_cost_one_image(source, content, message):
    (source / "AllXML" / "100.xml").write_bytes(content)
    with pytest.raises(ConverterError, match=rf"100\.xml: {message}"):
        read_contours(source / "AllXML" / "100.xml")
    problems = {image.key: image.problem for image in Inbreast(source).images()}
    assert message in problems.pop("100")
    assert set(problems.values()) == {None}


def test_an_incomplete_assessment_is_neither_benign_nor_malignant(source):
    (source / "INbreast.csv").write_text(TABLE.replace(";4a", ";0"))
    converter = Inbreast(source)
    assert "100" not in {image.key for image in converter.images()}
    why = "left out by the label rules (built in): birads 0, density 2"
    assert ("100_aaa_MG_L_ML_ANON.dcm", why) in converter.skipped


def test_an_image_that_is_there_twice(source):
    (source / "INbreast.csv").write_text(TABLE + "removed;removed;L;MLO;2010;100;2;1\n")
    with pytest.raises(ConverterError, match=r"line 6: File Name '100' is there twice \(line 2\)"):
        list(Inbreast(source).images())


def test_contours_twice_or_in_fractions(source):
    triangle = [(60.0, 100.0), (99.0, 100.0), (60.0, 119.0)]
    (source / "AllXML" / "100.xml").write_bytes(contours(("Mass", triangle), ("Mass", triangle)))
    (source / "AllXML" / "103.xml").write_bytes(contours(("Mass", [(x / 300, y / 400) for x, y in triangle])))
    converter = Inbreast(source)
    found = {i.key: i for i in converter.images()}
    assert len(found["100"].annotations) == 1
    assert ("100 finding 2", "mass of the same contour again") in converter.skipped
    assert "103.xml: contour 1 lies within the first pixel" in found["103"].problem


def test_a_folder_in_the_place_of_contours_is_not_none_of_them(source):
    (source / "AllXML" / "100.xml").unlink()
    (source / "AllXML" / "100.xml").mkdir()
    found = {i.key: i for i in Inbreast(source).images()}
    assert "100.xml: not an OsiriX property list" in found["100"].problem
