"""predictions.json on a ground truth: which image a file is, and boxes in its pixels."""

import json

import pytest

from mammo_d2.core.files import sha256_file
from mammo_d2.evaluation.files.box_tables import load_image_scores
from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.detection_files import load_detections
from mammo_d2.evaluation.files.predicted_files import read_predicted
from mammo_d2.evaluation.files.results import ResultsError

# Cropped from (20, 10), mirrored and reduced by half: x' = (60 - (x - 20)) / 2, y' = (y - 10) / 2.
TRANSFORM = {"source_size": [100, 90], "crop": [20, 10, 60, 80], "flip": True, "scale": [0.5, 0.5]}
PREPARED, SOURCE = [4.0, 5.0, 10.0, 20.0], [52.0, 20.0, 20.0, 40.0]


def write_truth(folder, **changes):
    """Image 11 is prepared as above, image 12 as it was."""
    size = {"height": 40, "width": 30}
    images = [
        {"id": 11, "file_name": "p/1.png", **size, "source": {"file": "p/1.dcm"}, "transform": TRANSFORM, **changes},
        {"id": 12, "file_name": "p/2.png", **size, "source": {"file": "p/2.dcm"}},
    ]
    annotation = {"id": 1, "image_id": 11, "category_id": 2, "bbox": PREPARED}
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    path = folder / "gt.json"
    path.write_text(json.dumps({"images": images, "annotations": [annotation], "categories": categories}))
    return path


def write_predictions(folder, *files, name="malignant"):
    """Of (file, (height, width), box) each; ids unlike the ground truth's."""
    images, annotations = [], []
    for number, (file, (height, width), box) in enumerate(files, start=1):
        scores = {name: number / 4}
        images.append({"id": number, "file_name": str(file), "height": height, "width": width, "image_scores": scores})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": box, "score": number / 8})
    path = folder / "predictions.json"
    content = {"info": {}, "images": images, "annotations": annotations, "categories": [{"id": 1, "name": name}]}
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    ("file", "size", "box"),
    [
        ("/data/mine/images/p/1.png", (40, 30), PREPARED),
        ("1.png", (40, 30), PREPARED),
        ("/archive/p/1.dcm", (100, 90), SOURCE),
    ],
)
def test_boxes_are_in_pixels_of_the_image(tmp_path, file, size, box):
    found = read_predicted(write_predictions(tmp_path, (file, size, box)), write_truth(tmp_path))
    assert found.entries == [{"image_id": 11, "category_id": "malignant", "bbox": PREPARED, "score": 0.125}]
    assert found.image_scores == {11: {"malignant": 0.25}}
    assert list(found.notes.values()) == [1]
    assert "images without prediction" in next(iter(found.notes))


@pytest.mark.parametrize(
    ("kind", "field", "value", "message"),
    [
        ("images", "id", [1], r"images\[0\]: id \[1\] must be a whole number or text"),
        ("images", "file_name", 7, r"images\[0\]: file_name 7 must be the path of a file"),
        ("images", "file_name", "", r"images\[0\]: file_name '' must be the path of a file"),
        ("images", "image_scores", [0.5], r"images\[0\]: image_scores \[0.5\] must be an object"),
        ("images", "image_scores", {"malignant": "0.5"}, r"image_scores: malignant '0.5' must be a finite number"),
        ("annotations", "image_id", 9, r"annotations\[0\]: image_id 9 is not among its images"),
        ("annotations", "category_id", 9, r"annotations\[0\]: category_id 9 is not among its categories"),
        ("annotations", "category_id", [1], r"category_id \[1\] is not among its categories"),
        ("annotations", "bbox", None, r"annotations\[0\]: bbox None must be four finite numbers"),
        ("categories", "name", 5, r"categories\[0\]: name 5 must be text"),
    ],
)
def test_a_bad_field_is_a_named_error(tmp_path, kind, field, value, message):
    path = write_predictions(tmp_path, ("1.png", (40, 30), PREPARED))
    content = json.loads(path.read_text())
    content[kind][0][field] = value
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=rf"predictions\.json: .*{message}"):
        read_predicted(path, write_truth(tmp_path))


def test_an_image_predicted_under_two_entries_of_one_id_is_an_error(tmp_path):
    path = write_predictions(tmp_path, ("1.png", (40, 30), PREPARED), ("2.png", (40, 30), PREPARED))
    content = json.loads(path.read_text())
    content["images"][1]["id"] = 1
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="an id of its images is there twice"):
        read_predicted(path, write_truth(tmp_path))


def test_files_of_one_name_are_told_by_size_and_else_by_content(tmp_path):
    truth = write_truth(tmp_path, source={"file": "p/1.png"})
    for size, box in (((40, 30), PREPARED), ((100, 90), SOURCE)):
        found = read_predicted(write_predictions(tmp_path, ("x/p/1.png", size, box)), truth)
        assert found.entries[0]["bbox"] == PREPARED
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "1.png").write_bytes(b"source")
    source = {"file": "p/1.png", "sha256": sha256_file(tmp_path / "p" / "1.png")}
    mirrored = {"source_size": [40, 30], "crop": [0, 0, 30, 40], "flip": True, "scale": [1.0, 1.0]}
    truth = write_truth(tmp_path, source=source, transform=mirrored)
    predictions = write_predictions(tmp_path, (tmp_path / "p" / "1.png", (40, 30), [16.0, 5.0, 10.0, 20.0]))
    assert read_predicted(predictions, truth).entries[0]["bbox"] == PREPARED
    (tmp_path / "p" / "1.png").write_bytes(b"prepared")
    assert read_predicted(predictions, truth).entries[0]["bbox"] == [16.0, 5.0, 10.0, 20.0]


def test_a_source_whose_name_was_made_unreadable_is_found_by_its_content(tmp_path):
    (tmp_path / "original.dcm").write_bytes(b"source")
    source = {"file": "5f3a", "sha256": sha256_file(tmp_path / "original.dcm")}
    predictions = write_predictions(tmp_path, (tmp_path / "original.dcm", (100, 90), SOURCE), ("other", (9, 9), SOURCE))
    found = read_predicted(predictions, write_truth(tmp_path, source=source))
    assert [(entry["image_id"], entry["bbox"]) for entry in found.entries] == [(11, PREPARED)]
    assert found.notes["predicted files that are not in the ground truth (left out)"] == 1


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("p/1.png", (41, 30), PREPARED)], r"p/1.png has \(rows, columns\) \(41, 30\), image 11 .* has \(40, 30\)"),
        ([("a/p/1.png", (40, 30), PREPARED), ("p/1.dcm", (100, 90), SOURCE)], r"p/1.dcm is image 11 .* so is a file"),
        ([("q/1.png", (40, 30), PREPARED)], r"none of its 1 files \(q/1.png, ...\) is an image of .* \(p/1.png, ...\)"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, files, message):
    with pytest.raises(ResultsError, match=message):
        read_predicted(write_predictions(tmp_path, *files), write_truth(tmp_path))


def test_a_file_that_may_be_two_images_is_named(tmp_path):
    truth = write_truth(tmp_path, file_name="q/2.png")
    with pytest.raises(ResultsError, match=r"2.png may be images 11, 12 of"):
        read_predicted(write_predictions(tmp_path, ("2.png", (40, 30), PREPARED)), truth)


def test_a_ground_truth_in_place_of_predictions(tmp_path):
    truth = write_truth(tmp_path)
    with pytest.raises(ResultsError, match="annotation 1 has no score; is it a ground truth"):
        read_predicted(truth, truth)


def test_classes_go_by_name(tmp_path):
    truth = write_truth(tmp_path)
    predictions = write_predictions(tmp_path, ("p/1.dcm", (100, 90), SOURCE))
    table, notes = load_detections(predictions, load_ground_truth(truth))
    assert (table.label.tolist(), table.image.tolist()) == ([1], [0])
    assert table.boxes.tolist() == [[4.0, 5.0, 14.0, 25.0]]
    table, notes = load_detections(predictions, load_ground_truth(truth, ["benign"]))
    assert len(table.label) == 0
    assert notes["detections of other categories"] == 1
    merged = load_ground_truth(truth, ["benign", "malignant"], merge="lesion")
    predictions = write_predictions(tmp_path, ("p/1.dcm", (100, 90), SOURCE), name="lesion")
    assert load_detections(predictions, merged)[0].label.tolist() == [0]
    assert load_image_scores(predictions, merged)[0].tolist() == [0.25]
    with pytest.raises(ResultsError, match=r"category_id 'lesion' is not in the ground truth.*--merge"):
        load_detections(predictions, load_ground_truth(truth))
