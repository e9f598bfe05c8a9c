"""``export-dicom`` from result files to DICOM objects."""

import csv
import json

import numpy as np
import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.export_dicom import run

pytest.importorskip("highdicom")
import pydicom

from mammo_d2.core.identifiers import hashed_identifier, write_salt
from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.inference.prediction_journal import JournalWriter
from mammo_d2.pictures.saliency_maps import write_saliency
from tests.inference.dicom_export.exams import write_view

BOX = [10.25, 20.5, 30.125, 40.0625]


@pytest.fixture
def predictions(tmp_path):
    """Predictions of three files in two studies, with maps of the first; the salt is "pepper"."""
    folder = tmp_path / "predictions"
    folder.mkdir()
    write_salt(folder, "pepper")
    with JournalWriter(folder / "predictions.jsonl", {"weights": ["abcdef0123"], "version": "0.1"}) as journal:
        for number, study in enumerate(("1.2.3.4", "1.2.3.4", "1.2.3.9"), start=1):
            file = write_view(tmp_path / "in", f"{number}.dcm", number, StudyInstanceUID=study)
            boxes = [] if number == 2 else [{"class": "malignant", "score": 0.75, "bbox": BOX}]
            uid = hashed_identifier(f"1.2.3.4.5.{number}", "pepper")
            journal.append(
                {
                    "id": number, "file_name": str(file), "height": 300, "width": 200, "boxes": boxes,
                    "image_scores": {"malignant": 0.75}, "instance": uid, "exam_id": None,
                }
            )  # fmt: skip
    transform = ImageTransform((300, 200), (100, 0, 100, 300), True, (0.5, 0.5))
    write_saliency(folder, 1, "1.dcm", np.array([[[0.2, 0.4]]]), ["malignant"], transform)
    return folder


def read(folder):
    return {path.name: pydicom.dcmread(path) for path in sorted(folder.glob("*.dcm"))}


def table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_folder_of_predict(predictions, tmp_path, capsys):
    out = tmp_path / "out"
    assert run([str(predictions), "--output", str(out), "--kinds", "sr", "gsps", "seg", "cad"]) == 0
    assert "2 sr, 2 cad, 1 seg, 2 gsps of 3 images, without patient and study" in capsys.readouterr().out
    objects = read(out)
    assert list(objects) == [
        "exam_0001_cad.dcm", "exam_0001_sr.dcm", "exam_0002_cad.dcm", "exam_0002_sr.dcm", "image_00001_gsps.dcm",
        "image_00001_seg.dcm", "image_00003_gsps.dcm",
    ]  # fmt: skip
    for dataset in objects.values():
        assert dataset.PatientID == hashed_identifier("P1", "pepper")
        assert "Doe" not in str(dataset)
        assert "19500101" not in str(dataset)
    line = objects["image_00003_gsps.dcm"].GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    x, y, width, height = BOX
    np.testing.assert_allclose(line.GraphicData[:6], [x, y, x + width, y, x + width, y + height], atol=1e-3)
    # The map is on the right half of the file, mirrored.
    pixels = objects["image_00001_seg.dcm"].pixel_array.reshape(300, 200)
    assert pixels[0, [0, 99, 100, 149, 150, 199]].tolist() == [0, 0, 102, 102, 51, 51]
    rows = table(out / "objects.csv")
    assert {row["object"]: row["sop_instance_uid"] for row in rows} == {
        name: dataset.SOPInstanceUID for name, dataset in objects.items()
    }


def test_the_same_results_give_the_same_files(predictions, tmp_path):
    for name in "ab":
        run([str(predictions), "--output", str(tmp_path / name)])
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name).glob("*_[sg][rs]*.dcm")} for name in "ab"
    )
    assert first == second
    assert len(first) == 4
    run([str(predictions), "--output", str(tmp_path / "c"), "--score-threshold", "0.8"])
    one, other = (pydicom.dcmread(tmp_path / name / "exam_0001_sr.dcm") for name in "ac")
    assert one.SOPInstanceUID != other.SOPInstanceUID


def test_kept_identifiers(predictions, tmp_path):
    run([str(predictions), "--output", str(tmp_path / "out"), "--keep-ids"])
    for dataset in read(tmp_path / "out").values():
        assert (dataset.PatientName, dataset.PatientID, dataset.AccessionNumber) == ("Doe^Jane", "P1", "A17")


def test_images_without_a_source_are_left_out(predictions, tmp_path, capsys):
    (tmp_path / "in" / "3.dcm").unlink()
    out = tmp_path / "out"
    arguments = [str(predictions), "--source", str(tmp_path / "in"), "--output", str(out)]
    assert run(arguments) == 3
    assert "1 of 3 images were left out; see errors.csv" in capsys.readouterr().err
    (row,) = table(out / "errors.csv")
    assert (row["level"], row["file"]) == ("error", str(tmp_path / "in" / "3.dcm"))
    assert "name the folder of the DICOM files" in row["problem"]
    with pytest.raises(FileNotFoundError):
        run([*arguments, "--strict"])


def test_results_that_do_not_say_what_made_them(tmp_path, capsys):
    file = write_view(tmp_path / "in")
    results = tmp_path / "r.json"
    results.write_text(json.dumps([{"image_id": file.name, "category_id": "mass", "bbox": BOX, "score": 0.5}]))
    arguments = [str(results), "--source", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stop:
        run_tool(run, arguments)
    assert stop.value.code == 2
    assert "does not say what made it; name it with --model-name and --model-version" in capsys.readouterr().err
    assert run([*arguments, "--model-name", "X", "--model-version", "2"]) == 0
    report = read(tmp_path / "out")["exam_0001_sr.dcm"]
    assert (report.ManufacturerModelName, report.SoftwareVersions[0]) == ("X", "2")


@pytest.mark.parametrize("option", [["--score-threshold", "2"], ["--regions", "-1"], ["--kinds", "rt"]])
def test_wrong_arguments(tmp_path, option):
    with pytest.raises(SystemExit) as stop:
        run([str(tmp_path), "--output", str(tmp_path / "out"), *option])
    assert stop.value.code == 2
