"""Personal data of DICOM files: every text, date and identifier of a header is filled, and none of it goes out."""

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mammo_d2.cli.data import prepare
from mammo_d2.cli.results import export_dicom, predict, report
from mammo_d2.core.identifiers import hashed_identifier
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.pictures.saliency_maps import write_saliency
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import make_dataset
from tests.engine import toy_training

# What is written into every element of a value representation, and found again in the outputs if it leaks.
SECRETS = {
    "PN": "ZQXNOBODY^NAME", "LO": "ZQXNOBODY TEXT", "SH": "ZQXNOBODY SHORT", "AE": "ZQXNOBODYENTITY",
    **dict.fromkeys(("ST", "LT", "UT", "UC"), "ZQXNOBODY LINES"), "UR": "http://zqxnobody.example/",
    "DA": "18770304", "TM": "031415.926", "DT": "18770304031415", "UI": "1.2.826.0.1.3680043.99.31415926.7",
}  # fmt: skip
LEAK = re.compile(rb"zqxnobody|18770304|1877-03-04|1877/03/04|031415|03:14:15|31415926", re.IGNORECASE)
PIXELS = half_ellipse(height=160, width=120)[0].astype(np.uint16)


def fill(dataset: Dataset) -> int:
    """Set every element of the dictionary that may hold text, a date, a time or an identifier; returns how many."""
    filled = 0
    for tag, (representation, _, _, _, keyword) in DicomDictionary.items():
        if representation in SECRETS and keyword and tag >> 16 > 0x2 and keyword not in ("SOPClassUID",):
            dataset.add_new(tag, representation, SECRETS[representation])
            filled += 1
    return filled


def write_private(path: Path, number: int, **tags) -> Path:
    """A mammogram in which everything is filled, sequences and private elements too."""
    dataset = make_dataset(PIXELS + number)
    assert fill(dataset) > 1000
    item = Dataset()
    fill(item)
    for keyword in ("OtherPatientIDsSequence", "RequestAttributesSequence", "ReferencedStudySequence"):
        setattr(dataset, keyword, Sequence([item]))
    block = dataset.private_block(0x0011, "ZQXNOBODY MAKER", create=True)
    block.add_new(0x01, "LO", "ZQXNOBODY PRIVATE")
    dataset.PatientID, dataset.StudyInstanceUID = f"ZQXNOBODY{number}", f"{SECRETS['UI']}.1{number}"
    dataset.SOPInstanceUID = f"{SECRETS['UI']}.2{number}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.ImageLaterality, dataset.ViewPosition, dataset.BurnedInAnnotation = "L", "CC", "YES"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


@pytest.fixture
def clinic(tmp_path):
    """Four good files, and bad ones for the messages: raw, several frames, cut off, on the wrong side, odd numbers."""
    folder = tmp_path / "clinic"
    for number in range(4):
        write_private(folder / f"f{number}.dcm", number)
    write_private(folder / "mirrored.dcm", 4, ImageLaterality="R")
    write_private(folder / "raw.dcm", 5, PresentationIntentType="FOR PROCESSING")
    write_private(folder / "window.dcm", 6, WindowCenter=1, WindowWidth=0, PixelPaddingValue=60000)
    cut = write_private(folder / "cut.dcm", 7)
    cut.write_bytes(cut.read_bytes()[:-500])
    rows = io.StringIO()
    writer = csv.writer(rows)
    writer.writerow(["file", "category", "x", "y", "width", "height", "malignant", "lesion_id"])
    for number, path in enumerate(sorted(folder.iterdir())):
        lesion = ["malignant", 20, 60, 20, 15, 1, "ZQXNOBODY lesion"] if number % 2 else ["", "", "", "", "", 0, ""]
        writer.writerow([path.name, *lesion])
    (tmp_path / "truth.csv").write_text(rows.getvalue())
    return folder


def leaks(*folders: Path) -> list[str]:
    """Files with a secret in their name or content."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*") if path.is_file()):
        match = LEAK.search(path.name.encode()) or LEAK.search(path.read_bytes())
        if match:
            found.append(f"{path}: {match[0]!r}")
    return found


def test_nothing_of_the_tags_goes_out(clinic, tmp_path, capfd, caplog):
    data, run, predictions = tmp_path / "data", tmp_path / "run", tmp_path / "predictions"
    argv = ["dicom", "--source", clinic, "--truth", tmp_path / "truth.csv", "--out", data / "toy", "--workers", 0,
            "--split", 0.5, 0, 0.5, "--quiet", "--id-salt", "pepper"]  # fmt: skip
    assert prepare.run([str(word) for word in argv]) == 0
    errors = (data / "toy" / "errors.csv").read_text()
    for text in ("FOR PROCESSING", "cut.dcm", "image is mirrored", "Burned In Annotation", "unusable VOI window"):
        assert text in errors
    assert prepare.run(["validate", str(data / "toy"), "--images", "full", "--out", str(tmp_path / "review"),
                        "--quiet"]) == 0  # fmt: skip
    # The names that are given are the keyed hashes, which cannot be found without the key.
    names = (data / "toy" / "annotations" / "train.json").read_text()
    names += (data / "toy" / "annotations" / "test.json").read_text()
    assert hashed_identifier("ZQXNOBODY0", "pepper") in names
    assert hashed_identifier("ZQXNOBODY0") not in names

    toy_training.run(
        tmp_path, "DATASETS.ROOT", str(data), "OUTPUT_DIR", str(run), "DATASETS.TRAIN", "['toy_train']",
        "DATASETS.TEST", "['toy_test']", "SOLVER.MAX_ITER", "2",
    )  # fmt: skip
    argv = ["--config-file", run / "config.yaml", "--weights", run / "model_final.pth", "--input", clinic,
            "--output", predictions, "--pictures", "--quiet"]  # fmt: skip
    assert predict.run([str(word) for word in argv]) in (0, 3)
    assert (predictions / "predictions.json").is_file()
    assert report.run(["--run", str(run)]) == 0
    assert (run / "report.html").is_file()

    assert leaks(data, run, predictions, tmp_path / "review") == []
    printed = capfd.readouterr()
    for text in (printed.out, printed.err, caplog.text):
        assert not LEAK.search(text.encode()), text


def test_identifiers_are_kept_when_asked_for(clinic, tmp_path):
    argv = ["dicom", "--source", clinic, "--out", tmp_path / "data", "--workers", 0, "--keep-ids", "--quiet",
            "--check", 0, "--limit", 2]  # fmt: skip
    assert prepare.run([str(word) for word in argv]) == 0
    # Patient and exam; nothing else of the header.
    content = b"".join(path.read_bytes() for path in (tmp_path / "data" / "annotations").iterdir())
    assert b"ZQXNOBODY0" in content
    others = re.sub(rb"ZQXNOBODY[0-9]|[0-9.]+99[.]31415926[.]7[.]1[0-9]", b"", content)
    assert not LEAK.search(others), LEAK.search(others)


KEPT_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "ReferencedSOPInstanceUID")
PATIENT_AND_STUDY = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientAge", "IssuerOfPatientID", "StudyDate", "StudyTime",
    "StudyID", "StudyDescription", "AccessionNumber", "ReferringPhysicianName", "DeidentificationMethod",
)  # fmt: skip


@pytest.fixture
def results(tmp_path):
    """COCO results with saliency maps of three files in which everything is filled; one has LUTs with explanations."""
    folder = tmp_path / "results"
    item = Dataset()
    item.LUTDescriptor, item.LUTData, item.ModalityLUTType = [2, 0, 16], np.uint16([0, 65535]).tobytes(), "ZQXNOBODY"
    item.LUTExplanation, item["LUTData"].VR = SECRETS["LO"], "OW"
    item["LUTDescriptor"].VR = "US"
    images, boxes = [], []
    for number in range(3):
        tags = {"SeriesInstanceUID": f"{SECRETS['UI']}.3{number}"}
        if number == 0:
            tags |= {"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "ZQXNOBODY"}
        if number == 1:
            tags |= {"ModalityLUTSequence": Sequence([item])}
        if number == 2:
            tags |= {"VOILUTSequence": Sequence([item]), "WindowCenterWidthExplanation": "ZQXNOBODY"}
        path = write_private(tmp_path / "in" / f"f{number}.dcm", number, **tags)
        height, width = PIXELS.shape
        images.append({"id": number, "file_name": str(path), "height": height, "width": width})
        boxes.append({"id": number, "image_id": number, "category_id": 1, "bbox": [5, 9, 20, 15], "score": 0.75})
        transform = ImageTransform((height, width), (0, 0, width, height), False, (1.0, 1.0))
        write_saliency(folder, number + 1, path.name, np.full((1, 2, 2), 0.5), ["malignant"], transform)
    categories = [{"id": 1, "name": "malignant"}]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "predictions.json").write_text(json.dumps(content))
    return folder / "predictions.json"


def exported(results, out, *options):
    """The objects that are made of the results, and {keyword: values} of those of their elements with a secret."""
    pytest.importorskip("highdicom")
    argv = [
        results,
        "--output",
        out,
        "--kinds",
        "sr",
        "cad",
        "seg",
        "gsps",
        "--model-name",
        "m",
        "--model-version",
        "1",
    ]
    assert export_dicom.run([str(word) for word in [*argv, *options]]) == 0
    objects = [pydicom.dcmread(path) for path in sorted(out.glob("*.dcm"))]
    found: dict[str, set[str]] = {}
    for dataset in objects:
        for element in (*dataset.file_meta, *dataset.iterall()):
            if element.VR != "SQ" and LEAK.search(f"{element.value}".encode()):
                found.setdefault(element.keyword or str(element.tag), set()).add(str(element.value))
    return objects, found


def test_exported_objects_hold_the_uids_of_the_images_and_nothing_else(results, tmp_path, capfd):
    objects, found = exported(results, tmp_path / "out")
    assert {dataset.Modality for dataset in objects} == {"SR", "SEG", "PR"}
    assert len(objects) == 12
    assert set(found) <= set(KEPT_UIDS)
    # Those of the study, the series and the image themselves, not e.g. that of the frame of reference.
    assert all(re.fullmatch(r"[0-9.]+99\.31415926\.7\.[123][0-9]", uid) for uids in found.values() for uid in uids)
    tables = "".join(path.read_text() for path in (tmp_path / "out").glob("*.csv"))
    assert not LEAK.search(tables.encode())
    printed = capfd.readouterr()
    assert not LEAK.search((printed.out + printed.err).encode())
    # Bytes too: what is in the file and in no element, such as a preamble.
    for path in (tmp_path / "out").glob("*.dcm"):
        assert not LEAK.search(re.sub(rb"[0-9.]+99[.]31415926[.]7[.][123][0-9]", b"", path.read_bytes())), path


def test_patient_and_study_are_exported_when_asked_for(results, tmp_path):
    objects, found = exported(results, tmp_path / "out", "--keep-ids")
    assert set(found) <= {*KEPT_UIDS, *PATIENT_AND_STUDY}
    assert {str(dataset.PatientID) for dataset in objects} == {"ZQXNOBODY0", "ZQXNOBODY1", "ZQXNOBODY2"}
    assert "ZQXNOBODY" in str(objects[0].PatientName)


def test_phantoms_are_of_nobody(tmp_path):
    """The only DICOM files that the package writes hold what the generator made up."""
    argv = ["phantom", "--patients", 1, "--set", "rows=160", "cols=128", "--out", tmp_path / "p", "--workers", 1,
            "--split", 1, 0, 0, "--quiet", "--check", 0]  # fmt: skip
    assert prepare.run([str(word) for word in argv]) == 0
    files = sorted((tmp_path / "p" / "raw").rglob("*.dcm"))
    assert len(files) == 4
    for path in files:
        dataset = pydicom.dcmread(path)
        assert str(dataset.PatientName).startswith("PHANTOM^")
        for element in dataset.iterall():
            if element.VR == "PN":
                assert str(element.value).startswith("PHANTOM^") or not element.value
        assert "InstitutionName" not in dataset
