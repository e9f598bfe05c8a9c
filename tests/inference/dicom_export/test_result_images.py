"""Result files of every kind as results to export."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.files.results import SOURCE_RESULTS_FILE, ResultsError
from mammo_d2.inference.dicom_export.result_images import read_result_images
from mammo_d2.inference.prediction_journal import JournalWriter
from tests.inference.dicom_export.exams import result

BOX = {"image_id": 3, "category_id": 2, "bbox": [10, 20, 30, 40], "score": 0.5}
RECORD = {
    "id": 4, "file_name": "in/a.dcm", "height": 300, "width": 200, "image_scores": {"malignant": 0.75, "benign": None},
    "boxes": [{"class": "malignant", "score": 0.5, "bbox": [10, 20, 30, 40]}], "instance": "0123456789abcdef",
    "exam_id": "1.2", "preparation": None, "warnings": [],
}  # fmt: skip
IMAGES = {
    "images": [{"id": 3, "file_name": "a.dcm", "height": 300, "width": 200}],
    "categories": [{"id": 2, "name": "malignant"}],
}


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_the_journal_of_predict(tmp_path):
    settings = {"weights": ["abcdef0123456789"], "version": "0.1", "preparation": [{"read": {"frame": 5}}]}
    with JournalWriter(tmp_path / "predictions.jsonl", settings) as journal:
        journal.append({**RECORD, "boxes": []})
        journal.append({"id": 1, "file_name": "b.dcm", "problem": "b.dcm: damaged"})
        journal.append(RECORD)
    found = read_result_images(tmp_path)  # the folder
    (image,) = found.images
    assert (image.number, image.name, image.size, image.labels) == (4, "in/a.dcm", (300, 200), ("malignant",))
    assert image.boxes.tolist() == [[10, 20, 40, 60]]
    assert image.image_scores == {"malignant": 0.75}
    assert image.identifiers == {"SOPInstanceUID": "0123456789abcdef", "StudyInstanceUID": "1.2"}
    assert (found.model, found.frame) == (("mammo_d2", "0.1 weights abcdef01"), 5)


def test_a_coco_file_with_scores(tmp_path):
    info = {"description": "predictions of model_final.pth by mammo_d2 0.1.0, research software"}
    path = write(tmp_path / "predictions.json", {**IMAGES, "annotations": [BOX], "info": info})
    found = read_result_images(path)
    assert found.model == ("mammo_d2", "0.1.0")
    assert (found.images[0].number, found.images[0].boxes.tolist()) == (3, [[10, 20, 40, 60]])


def test_coco_results_on_prepared_images(tmp_path):
    """Cropped from column 100, mirrored and halved: boxes go back to the source."""
    transform = {"source_size": [300, 200], "crop": [100, 0, 100, 300], "flip": True, "scale": [0.5, 0.5]}
    prepared = {
        "id": 3, "file_name": "x.png", "height": 150, "width": 50, "transform": transform,
        "source": {"file": "exam/a.dcm"},
    }  # fmt: skip
    images = write(tmp_path / "test.json", {**IMAGES, "images": [prepared]})
    (image,) = read_result_images(write(tmp_path / "results.json", [BOX]), images).images
    assert (image.name, image.size) == ("exam/a.dcm", (300, 200))
    assert image.boxes.tolist() == [[120, 40, 180, 120]]
    # The results that a run has already moved stay where they are.
    (image,) = read_result_images(write(tmp_path / SOURCE_RESULTS_FILE, [BOX]), images).images
    assert image.boxes.tolist() == [[10, 20, 40, 60]]


def test_coco_results_that_name_files(tmp_path):
    (image,) = read_result_images(write(tmp_path / "r.json", [{**BOX, "image_id": "1.2.3"}])).images
    assert (image.name, image.size, image.labels) == ("1.2.3", None, ("class 2",))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ([BOX], r"r.json\[0\]: image_id 3 is not the name of a file; name the COCO file .*--images"),
        ([{**BOX, "image_id": "a", "score": 93}], "score 93 of class 2 must be in"),
        ([{**BOX, "image_id": "a", "bbox": [1, 2]}], "bbox"),
        ([], "no image has results"),
        ({"images": []}, "'annotations' is missing"),
        ({**IMAGES, "annotations": [{**BOX, "image_id": 9}]}, "there is none with id 9, which has boxes"),
        ({**IMAGES, "annotations": [{**BOX, "category_id": 9}]}, "category_id 9 is not among the categories"),
        ({**IMAGES, "images": IMAGES["images"] * 2, "annotations": []}, "id 3 is there twice"),
    ],
)
def test_other_files_are_errors(tmp_path, content, problem):
    with pytest.raises(ResultsError, match=problem):
        read_result_images(write(tmp_path / "r.json", content))


def test_an_empty_folder(tmp_path):
    with pytest.raises(ResultsError, match=r"neither predictions.jsonl nor predictions.json in it"):
        read_result_images(tmp_path)


def test_the_best_boxes():
    image = result("a", boxes=[[0, 0, n, n] for n in range(1, 6)])  # scores 0.93, 0.47, 0.31, 0.23, 0.19
    assert image.best(0.3).boxes[:, 2].tolist() == [1, 2, 3]
    assert image.best(0.3).labels == ("malignant", "benign", "malignant")
    assert image.best(0, top=1).boxes[:, 2].tolist() == [1, 2]
    empty = image.best(0.99, top=2)
    assert (empty.boxes.shape, empty.labels) == ((0, 4), ())
    np.testing.assert_array_equal(empty.scores, [])
