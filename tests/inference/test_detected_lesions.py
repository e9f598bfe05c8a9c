"""A detector's results as lesions: boxes and masks, in pixels of the prepared images or of the files they are from."""

import json
import logging

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.inference.detected_lesions import records_with_results
from tests.data.lesion_dataset import HEIGHT, WIDTH

# Cropped from (20, 10), mirrored and reduced by half: x' = (60 - (x - 20)) / 2, y' = (y - 10) / 2.
TRANSFORM = {"source_size": [100, 90], "crop": [20, 10, 60, 80], "flip": True, "scale": [0.5, 0.5]}
IN_PREPARED, IN_SOURCE = [4, 5, 10, 20], [52, 20, 20, 40]


def record():
    return {"image_id": 3, "file_name": "a.png", "height": HEIGHT, "width": WIDTH, "annotations": []}


def mask_of(box, size=(HEIGHT, WIDTH)):
    pixels = np.zeros(size, np.uint8, order="F")
    pixels[box[1] : box[1] + box[3], box[0] : box[0] + box[2]] = 1
    runs = coco_mask.encode(pixels)
    return {"size": list(size), "counts": runs["counts"].decode()}


def test_masks_of_a_detector_are_the_lesions_and_what_lies_outside_is_left_out(tmp_path, caplog):
    mask = mask_of([10, 20, 5, 6])
    entries = [
        {"image_id": 3, "category_id": 1, "score": 0.9, "bbox": [9, 19, 8, 8], "segmentation": mask},
        {"image_id": 3, "category_id": 1, "score": 0.8, "segmentation": mask},
        {"image_id": 3, "category_id": 1, "score": 0.7, "bbox": [200, 5, 9, 9]},
        {"image_id": 3, "category_id": 1, "score": 0.6, "bbox": [5, 5, 0, 9]},
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(entries))
    with caplog.at_level(logging.WARNING):
        (found,) = records_with_results([record()], path, pixels="prepared")
    assert [one["bbox"] for one in found["annotations"]] == [[9, 19, 8, 8], [10, 20, 5, 6]]
    assert all(one["segmentation"] == mask for one in found["annotations"])
    assert "2 entries have no pixel inside their prepared image and are skipped; the first is entry 2" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"image_id": 3, "score": 0.5}]', "entry 0: no COCO result"),
        ('{"annotations": []}', "entry 0: no COCO result"),
        ("[{", "not valid JSON at line 1"),
        *(
            (json.dumps([{"image_id": 3, "score": 0.5, "bbox": [1, 1, 2, 2], **wrong}]), message)
            for wrong, message in (
                ({"score": float("nan")}, r"r\.json, entry 0: score nan must be a finite number"),
                ({"score": None}, "entry 0: score None must be a finite number"),
                ({"score": float("inf")}, "entry 0: score inf must be a finite number"),
                ({"bbox": [1, 1, 2]}, r"entry 0: bbox \[1, 1, 2\] must be \[x, y, width, height\]"),
                ({"bbox": [1, "1", 2, 2]}, "entry 0: bbox .* finite numbers"),
                ({"bbox": [1, float("nan"), 2, 2]}, "entry 0: bbox .* finite numbers"),
                ({"image_id": [3]}, r"entry 0: image_id \[3\] must be a number or text"),
                ({"segmentation": "x"}, "entry 0: segmentation 'x' must be polygons"),
            )
        ),
        (
            json.dumps([{"image_id": 3, "score": 1, "segmentation": mask_of([1, 1, 2, 2], (9, 9))}]),
            r"entry 0.*\[9, 9\].*or give --pixels source",
        ),
    ],
)
def test_results_that_are_none_are_named(tmp_path, content, message):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ResultsError, match=message):
        records_with_results([record()], tmp_path / "r.json")


def prepared_record():
    return {"image_id": 3, "file_name": "a.png", "height": 40, "width": 30, "annotations": [], "transform": TRANSFORM}


def found(path, boxes, **options):
    entries = [{"image_id": 3, "category_id": 1, "score": 0.5, **box} for box in boxes]
    path.write_text(json.dumps(entries))
    (one,) = records_with_results([prepared_record()], path, **options)
    return one["annotations"]


def test_boxes_and_masks_in_source_pixels(tmp_path):
    boxes = [{"bbox": IN_SOURCE}, {"segmentation": mask_of(IN_SOURCE, (100, 90))}]
    polygon = [[52.0, 20.0, 72.0, 20.0, 72.0, 60.0, 52.0, 60.0]]
    for path, options in (
        (tmp_path / "r.json", {"pixels": "source"}),
        (tmp_path / "coco_instances_results_source.json", {}),
    ):
        by_box, by_mask, by_polygon = found(path, [*boxes, {"segmentation": polygon}], **options)
        assert by_box["bbox"] == by_mask["bbox"] == by_polygon["bbox"] == IN_PREPARED
        assert coco_mask.area(by_mask["segmentation"]) == 10 * 20
    assert found(tmp_path / "r.json", [{"bbox": IN_PREPARED}])[0]["bbox"] == IN_PREPARED
    with pytest.raises(ResultsError, match=r"\[100, 90\].*--pixels source"):
        found(tmp_path / "r.json", boxes[1:])
    with pytest.raises(ResultsError, match=r"\[40, 30\].*--pixels prepared"):
        found(tmp_path / "r.json", [{"segmentation": mask_of(IN_PREPARED, (40, 30))}], pixels="source")


def test_boxes_that_cannot_be_in_prepared_pixels_are_an_error(tmp_path, caplog):
    path = tmp_path / "r.json"
    with pytest.raises(
        ResultsError, match=r"entry 1: bbox \[52, 20, 20, 40\] extends beyond its image of \(40, 30\).*1 of 2"
    ):
        found(path, [{"bbox": IN_PREPARED}, {"bbox": IN_SOURCE}])
    # Within the file, but a detector that does not clip its boxes may have found this.
    sticking = [{"bbox": [25, 5, 8, 20]}]
    with pytest.raises(ResultsError, match=r"--pixels source if .* or --pixels prepared if"):
        found(path, sticking)
    assert len(found(path, sticking, pixels="prepared")) == 1
    # By less than a pixel is rounding; out of the file, too, is no matter of pixels.
    assert len(found(path, [{"bbox": [25, 5, 5.9, 20]}])) == 1
    assert len(found(path, [{"bbox": [25, -30, 5, 60]}])) == 1
    with pytest.raises(ResultsError, match=r"bbox \[200, 5, 9, 9\] .* entirely outside it.*give the data set"):
        found(path, [{"bbox": [200, 5, 9, 9]}, {"bbox": IN_PREPARED}])
    with caplog.at_level(logging.WARNING):
        assert len(found(path, [{"bbox": [200, 5, 9, 9]}, {"bbox": IN_PREPARED}], pixels="prepared")) == 1
        # In the air beside the breast: cropped away.
        assert found(path, [{"bbox": [2, 20, 9, 9]}], pixels="source") == []
    assert caplog.text.count("1 entries have no pixel inside their prepared image") == 2
