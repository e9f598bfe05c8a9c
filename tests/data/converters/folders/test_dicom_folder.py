import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.folders.dicom_folder import DicomFolder
from mammo_d2.data.format.problems import SchemaError
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.reading.dicom.dicom_file import is_dicom
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import code, write_dicom

PIXELS = half_ellipse()[0].astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "dicom"
    for patient in ("Doe-Jane", "Roe-Ann"):
        for view in ("CC", "MLO"):
            path = root / patient / f"{patient}-{view}.dcm"
            write_dicom(path, PIXELS, PatientID=patient, StudyInstanceUID=f"1.2.{len(patient)}", ImageLaterality="L",
                        ViewPosition=view, SOPInstanceUID=f"1.2.3.{len(patient)}.{len(view)}")  # fmt: skip
    (root / "README.txt").write_text("not an image, and long enough to be looked at: " + "." * 200)
    return root


def images(folder, *arguments, **keywords):
    converter = DicomFolder(folder, *arguments, **keywords)
    return list(converter.images()), converter


def coco(records, annotations=(), **more):
    return {
        "images": [{"id": n, "height": 400, "width": 300, **r} for n, r in enumerate(records, start=1)],
        "annotations": list(annotations),
        "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
        **more,
    }


def test_one_sop_instance_uid_with_different_pixels_is_reported(folder, tmp_path):
    write_dicom(folder / "Roe-Ann" / "again.dcm", PIXELS + 1, PatientID="Roe-Ann", StudyInstanceUID="1.2.7",
                ImageLaterality="L", ViewPosition="CC", SOPInstanceUID="1.2.3.7.2")  # fmt: skip
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False)
    result = prepare(DicomFolder(folder, keep_ids=True), tmp_path / "out", options)
    about = {issue.key: issue.problem for issue in result.issues if "SOP Instance UID" in issue.problem}
    assert set(about) == {"Roe-Ann/again", "Roe-Ann/Roe-Ann-CC"}
    assert "Roe-Ann-CC.dcm, too: one image twice, or a wrong UID; remove one" in about["Roe-Ann/again"]


def test_unusual_images_are_marked_in_the_record(folder, tmp_path):
    write_dicom(folder / "i.dcm", PIXELS + 1, PatientID="I", BreastImplantPresent="YES", ImageLaterality="L")
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False)
    result = prepare(DicomFolder(folder, keep_ids=True), tmp_path / "out", options)
    records = {i["file_name"]: i for i in json.loads(result.files[0].read_text())["images"]}
    assert records["i.png"]["source"]["unusual"] == ["implant (Breast Implant Present YES)"]
    assert "unusual" not in records["Roe-Ann/Roe-Ann-CC.png"]["source"]
    assert any(i.key == "i" and i.problem.startswith("implant") for i in result.issues)


def test_folder_without_truth(folder):
    found, converter = images(folder, keep_ids=True)
    assert [i.key for i in found] == [
        "Doe-Jane/Doe-Jane-CC", "Doe-Jane/Doe-Jane-MLO", "Roe-Ann/Roe-Ann-CC", "Roe-Ann/Roe-Ann-MLO",
    ]  # fmt: skip
    assert (found[0].patient_id, found[0].exam_id, found[0].laterality, found[0].view) == (
        "Doe-Jane",
        "1.2.8",
        "L",
        "CC",
    )
    assert found[0].labels == {"benign": None, "malignant": None}
    assert converter.skipped == [("README.txt", "not a DICOM file")]


def test_no_identifier_goes_out(folder, tmp_path):
    prepare(DicomFolder(folder), tmp_path / "out", PrepareOptions(progress=False))
    for path in (tmp_path / "out").rglob("*"):
        assert "Jane" not in path.name
        if path.is_file() and path.suffix in (".json", ".png"):
            content = path.read_bytes()
            for secret in (b"Doe", b"Jane", b"Roe-Ann", b"1.2.3."):
                assert secret not in content, (path, secret)


def test_hashed_identifiers_join_the_same_patient(folder):
    found, _ = images(folder)
    assert len({i.patient_id for i in found}) == 2
    assert found[0].patient_id == found[1].patient_id
    assert len(found[0].patient_id) == 16
    other, _ = images(folder, id_salt="secret")
    assert other[0].patient_id != found[0].patient_id
    assert images(folder)[0][0].key == found[0].key


def test_coco_truth_with_everything(folder, tmp_path):
    mask = np.zeros((400, 300), np.uint8)
    mask[100:120, 60:100] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    names = ["Doe-Jane/Doe-Jane-CC.dcm", "Roe-Ann/Roe-Ann-CC.dcm"]
    data = coco(
        [{"file_name": names[0], "patient_id": "A", "labels": {"malignant": 1}, "birads": 5, "nipple": [180, 200],
          "pectoral": None, "split": "test", "patient_class": "x"},
         {"file_name": names[1], "patient_id": "B", "split": "train"}],
        [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [60, 100, 40, 20], "pathology": "IDC", "lesion_id": "l1",
          "segmentation": {"size": [400, 300], "counts": rle["counts"].decode()}, "look": "spiculated"}],
        distractors=[{"image_id": 2, "bbox": [10, 20, 30, 40]}],
    )  # fmt: skip
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(data))
    found, converter = images(folder, truth, keep_ids=True)
    assert [i.key for i in found] == ["Doe-Jane/Doe-Jane-CC", "Roe-Ann/Roe-Ann-CC"]
    assert ("Doe-Jane/Doe-Jane-MLO.dcm", "not in truth.json") in converter.skipped
    options = PrepareOptions(image=ImageOptions(flip_to="right", max_side=200), progress=False)
    result = prepare(converter, tmp_path / "out", options)
    assert sorted(result.counts) == ["test", "train"]
    data = json.loads((tmp_path / "out" / "annotations" / "test.json").read_text())
    (image,), (annotation,) = data["images"], data["annotations"]
    # Halved and mirrored: x -> (300 - x) / 2.
    assert annotation["bbox"] == [100, 50, 20, 10]
    assert (annotation["pathology"], annotation["lesion_id"], annotation["look"]) == ("IDC", "l1", "spiculated")
    assert coco_mask.toBbox(annotation["segmentation"]).tolist() == [100, 50, 20, 10]
    assert (image["patient_id"], image["birads"], image["nipple"], image["patient_class"]) == ("A", 5, [60, 100], "x")
    assert (image["view"], image["laterality"], image["pectoral"]) == ("CC", "L", None)
    transform = ImageTransform.from_dict(image["transform"])
    np.testing.assert_allclose(transform.boxes_to_source([100, 50, 120, 60]), [60, 100, 100, 120])
    train = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    assert train["images"][0]["distractors"] == [[130, 10, 15, 20]]


def test_no_key_of_a_coco_truth_goes_out_unnamed(folder, tmp_path):
    box = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [60, 100, 40, 20]}
    data = coco(
        [{"file_name": "Doe-Jane/Doe-Jane-CC.dcm", "patient_name": "Doe^Jane", "study_date": "20200131",
          "distractors": [[1, 2, 3, 4]]},
         {"file_name": "Roe-Ann/Roe-Ann-CC.dcm", "patient_name": "Roe^Ann"}],
        [{**box, "category": "benign", "radiologist": "Dr. Roe", "lesion_id": "Jane-1", "finding": "mass"},
         {**box, "id": 2, "bbox": [60, 130, 40, 20], "lesion_id": "Jane-2"}],
    )  # fmt: skip
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(data))
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False)
    result = prepare(DicomFolder(folder, truth), tmp_path / "out", options)
    content = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    first, second = content["annotations"]
    # category_id says malignant; a key "category" means nothing.
    assert (first["category_id"], first["finding"]) == (2, "mass")
    assert not {"category", "radiologist"} & set(first)
    assert len(first["lesion_id"]) == len(second["lesion_id"]) == 16
    assert first["lesion_id"] != second["lesion_id"]
    assert not {"patient_name", "study_date", "distractors"} & set(content["images"][0])
    assert [why for what, why in result.skipped if what == str(truth)] == [
        "key 'distractors' of 1 images is none of the format's; left out",
        "key 'patient_name' of 2 images is none of the format's; left out",
        "key 'study_date' of 1 images is none of the format's; left out",
        "key 'category' of 1 annotations is none of the format's; left out",
        "key 'radiologist' of 1 annotations is none of the format's; left out",
    ]
    for path in (tmp_path / "out").rglob("*.json"):
        for secret in ("Jane", "20200131", "Dr. Roe"):
            assert secret not in path.read_text(), (path, secret)


def test_csv_truth(folder, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text(
        "file,category,x,y,width,height,benign,malignant,patient_id\n"
        "Doe-Jane/Doe-Jane-CC.dcm,malignant,60,100,40,20,,1,A\n"
        "Doe-Jane/Doe-Jane-CC.dcm,benign,10,100,40,20,,1,A\n"
        "1.2.3.7.3,,,,,,0,0,B\n"  # by SOP Instance UID: Roe-Ann's MLO
        "Roe-Ann/Roe-Ann-CC.dcm,benign,1,2,3,4,,,B\n"
    )
    found, _ = images(folder, truth, keep_ids=True)
    by_key = {i.key.split("/")[1]: i for i in found}
    first = by_key["Doe-Jane-CC"]
    assert [(a.category, a.bbox) for a in first.annotations] == [
        ("malignant", (60, 100, 40, 20)), ("benign", (10, 100, 40, 20)),
    ]  # fmt: skip
    assert first.labels == {"benign": None, "malignant": 1}
    assert first.patient_id == "A"
    assert by_key["Roe-Ann-MLO"].labels == {"benign": 0, "malignant": 0}
    # Boxes alone say what is there, not what is not.
    assert by_key["Roe-Ann-CC"].labels == {"benign": 1, "malignant": None}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name\nx\n", "column 'file' is missing"),
        ("file,category,x,y,width,height\na.dcm,cancer,1,2,3,4\n", "line 2: category 'cancer' must be one of"),
        (
            "file,category,x,y,width,height\na.dcm,benign,1,2,3,\n",
            "line 2: x, y, width, height .* must be four numbers",
        ),
        ("file,benign\na.dcm,yes\n", "line 2: benign 'yes' must be 0, 1 or empty"),
    ],
)
def test_bad_csv(folder, tmp_path, text, message):
    truth = tmp_path / "truth.csv"
    truth.write_text(text)
    with pytest.raises(ConverterError, match=message):
        DicomFolder(folder, truth)


def test_truth_for_files_that_are_not_there(folder, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text("file\nDoe-Jane/Doe-Jane-CC.dcm\nnobody.dcm\n")
    with pytest.raises(ConverterError, match=r"1 files are not in .*, e\.g\. 'nobody\.dcm'"):
        images(folder, truth)


def test_bad_coco_truth(folder, tmp_path):
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps({**coco([{"file_name": "a"}]), "categories": [{"id": 1, "name": "cancer"}]}))
    with pytest.raises(ConverterError, match="category 'cancer'"):
        DicomFolder(folder, truth)
    box = {"id": 0, "image_id": 1, "category_id": 1, "bbox": [1, 1, 1, 1]}
    truth.write_text(json.dumps(coco([{"file_name": "a"}], [box])))
    with pytest.raises(SchemaError, match="never matches annotation id 0"):
        DicomFolder(folder, truth)


def test_magnification_views_are_skipped_unless_asked_for(folder):
    item = code("R-10242", "SRT", ViewModifierCodeSequence=[code("R-102D6", "SRT", "Magnification")])
    write_dicom(folder / "mag.dcm", PIXELS, ViewCodeSequence=[item])
    found, converter = images(folder)
    assert len(found) == 4
    assert ("mag.dcm", "Magnification image") in converter.skipped
    assert len(images(folder, all_views=True)[0]) == 5


def test_broken_files_reach_the_error_table(folder, tmp_path):
    (folder / "broken.dcm").write_bytes(b"no dicom at all " * 40)
    write_dicom(folder / "empty.dcm", PIXELS, PixelData=None, PatientID="X")
    write_dicom(folder / "report.dcm", PIXELS, PixelData=None, Rows=None, Columns=None)
    result = prepare(DicomFolder(folder, keep_ids=True), tmp_path / "out", PrepareOptions(progress=False))
    assert sum(n["images"] for n in result.counts.values()) == 4
    assert {i.key: i.problem.split(": ")[1].split(";")[0].split(" (")[0] for i in result.errors} == {
        "broken": "not a DICOM file", "empty": "DICOM file without pixel data",
    }  # fmt: skip
    assert any(what == "report.dcm" for what, _ in result.skipped)


def test_a_file_that_cannot_be_opened_costs_one_image(folder, tmp_path, monkeypatch):
    def refuse(path):
        if path.name == "Doe-Jane-CC.dcm":
            raise PermissionError(13, "Permission denied", str(path))
        return is_dicom(path)

    monkeypatch.setattr("mammo_d2.data.converters.folders.dicom_folder.is_dicom", refuse)
    assert len(images(folder)[0]) == 4


@pytest.mark.shared_data
def test_real_film_mammogram_end_to_end(shared_data, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "MG1.dcm").symlink_to(shared_data / "nema_wg04" / "MG1_J2KI.dcm")
    options = PrepareOptions(image=ImageOptions(crop=True, max_side=1024), progress=False)
    result = prepare(DicomFolder(source), tmp_path / "out", options)
    (file,) = result.files
    (image,) = json.loads(file.read_text())["images"]
    assert max(image["height"], image["width"]) == 1024
    assert (image["laterality"], image["view"]) == ("L", "MLO")
    transform = ImageTransform.from_dict(image["transform"])
    assert transform.source_size == (4664, 3064)
    np.testing.assert_allclose(image["pixel_spacing"], [0.05 / s for s in transform.scale])
    assert image["pixel_spacing_source"] == "SpatialResolution"
