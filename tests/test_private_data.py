"""Personal data of DICOM files: every text, date and identifier of a header is filled, and none of it goes out."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mammo_d2.cli.data import prepare
from mammo_d2.cli.results import predict, report
from mammo_d2.core.identifiers import hashed_identifier
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
