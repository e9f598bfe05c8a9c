"""Results in source pixels: undoing scale, flip and crop, and results that do not belong to the data set."""

import pytest

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.files.source_pixels import results_to_source

TRANSFORM = {"source_size": [400, 300], "crop": [50, 10, 200, 380], "flip": True, "scale": [0.5, 0.25]}
RECORDS = [
    {"image_id": 1, "height": 190, "width": 50, "transform": TRANSFORM},
    {"image_id": "two", "height": 100, "width": 80},
]
ENTRIES = [
    {"image_id": 1, "category_id": 2, "bbox": [10, 20, 5, 30], "score": 0.5},
    {"image_id": "two", "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.25},
]
# Unscaled: x 40..60, y 40..100; flipped in a crop 200 wide: x 140..160; moved: x 190..210, y 50..110.
SOURCE = [[190, 50, 20, 60], [1, 2, 3, 4]]


def test_boxes_go_back_through_scale_flip_and_crop():
    moved = results_to_source(ENTRIES, RECORDS)
    assert [entry["bbox"] for entry in moved] == SOURCE
    assert [{**entry, "bbox": None} for entry in moved] == [{**entry, "bbox": None} for entry in ENTRIES]
    assert ENTRIES[0]["bbox"] == [10, 20, 5, 30]
    assert results_to_source([], RECORDS) == []


def test_coco_images_serve_as_well_as_records():
    images = [{"id": r["image_id"], **{k: v for k, v in r.items() if k != "image_id"}} for r in RECORDS]
    assert [entry["bbox"] for entry in results_to_source(ENTRIES, images)] == SOURCE


def test_results_of_another_data_set_are_a_named_error():
    with pytest.raises(ResultsError, match="entry 1: image_id 'three' is not in the data set"):
        results_to_source([ENTRIES[0], {**ENTRIES[1], "image_id": "three"}], RECORDS)
