"""Choice and captions of pictures, and an evaluation as tables."""

import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.report.shown_images import describe_image, evaluation_data


def record(image_id, *boxes):
    annotations = [{"bbox": list(box), "bbox_mode": 1, "category_id": 0} for box in boxes]
    return {"image_id": image_id, "height": 100, "width": 100, "annotations": annotations, "file_name": "none.png"}


def entry(image_id, box, score, category=2):
    return {"image_id": image_id, "category_id": category, "bbox": list(box), "score": score}


def test_results_become_tables_of_corners():
    data = evaluation_data([record("a", (10, 10, 20, 30)), record("b")], ["x"], [entry("b", (1, 2, 3, 4), 0.5)], {2: 0})
    assert data.lesions.boxes.tolist() == [[10, 10, 30, 40]]
    assert (data.detections.boxes.tolist(), data.detections.image.tolist()) == ([[1, 2, 4, 6]], [1])


def test_predictions_of_another_data_set_are_refused():
    with pytest.raises(ResultsError, match="entry 0: image_id 'z' or category_id 2"):
        evaluation_data([record("a")], ["x"], [entry("z", (0, 0, 1, 1), 0.5)], {2: 0})
    with pytest.raises(ResultsError, match="category_id 7"):
        evaluation_data([record("a")], ["x"], [entry("a", (0, 0, 1, 1), 0.5, category=7)], {2: 0})


def test_caption_says_what_is_known():
    known = {"image_id": "a", "patient_id": "P7", "laterality": "L", "view": "CC"}
    assert describe_image(known) == "image a, patient P7, L CC"
    assert describe_image({"image_id": 3, "patient_id": None}) == "image 3"
