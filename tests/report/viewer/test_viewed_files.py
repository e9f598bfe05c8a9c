"""Predictions on files as the viewer's data; errors name the entry. Results on a ground truth: tests/cli."""

import json

import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.report.viewer.viewed_files import viewed_predictions

IMAGE = {"id": 1, "file_name": "a.dcm", "height": 80, "width": 60}
BOX = {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}


def write(folder, images=(IMAGE,), annotations=(BOX,)):
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    content = {"images": list(images), "annotations": list(annotations), "categories": categories}
    path = folder / "predictions.json"
    path.write_text(json.dumps(content))
    return path


def test_boxes_and_scores(tmp_path):
    other = {**IMAGE, "id": 2, "file_name": "b.dcm", "image_scores": {"malignant": 0.25, "BI-RADS 0": 0.5}}
    dataset = viewed_predictions(write(tmp_path, [IMAGE, other]), tmp_path / "films")
    assert dataset.records[0]["file_name"] == str(tmp_path / "films" / "a.dcm")
    assert (dataset.classes, dataset.rule, dataset.fallback) == (["benign", "malignant"], None, 0.5)
    (system,) = dataset.systems
    assert system.detections.boxes.tolist() == [[1, 2, 4, 6]]
    assert system.detections.label.tolist() == [1]
    assert system.image_scores[1, 1] == 0.25
    assert viewed_predictions(write(tmp_path, [IMAGE], [])).systems[0].image_scores is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": ["x"]}, r"images\[0\]: must be an object with a file_name"),
        ({"images": [{**IMAGE, "height": 0}]}, "height and width must be whole numbers above 0"),
        ({"images": [IMAGE, IMAGE]}, "an id of its images is there twice"),
        ({"annotations": [{**BOX, "image_id": 9}]}, r"annotations\[0\]: image_id or category_id is not in the file"),
        ({"annotations": [{**BOX, "score": None}]}, "score = None must be a number"),
        ({"annotations": [{**BOX, "bbox": [1]}]}, "must be four finite numbers"),
    ],
)
def test_damaged_files(tmp_path, change, message):
    with pytest.raises(ResultsError, match=message):
        viewed_predictions(write(tmp_path, **change))


def test_other_files(tmp_path):
    (tmp_path / "predictions.json").write_text("[]")
    with pytest.raises(ResultsError, match=r"not predictions\.json of mammo-d2 predict"):
        viewed_predictions(tmp_path)
