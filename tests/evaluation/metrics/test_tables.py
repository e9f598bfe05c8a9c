"""Records to tables: truth of images, groups of images, boxes in both modes."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.tables import images_from_records, lesions_from_records

CLASSES = ("benign", "malignant")


def box(category, **more):
    return {"bbox": [1.0, 2.0, 3.0, 4.0], "bbox_mode": 1, "category_id": category, **more}


def test_truth_of_images():
    records = [
        {"image_id": 1, "annotations": [box(0)], "labels": {"benign": None, "malignant": None}},
        {"image_id": 2, "annotations": []},
    ]
    np.testing.assert_array_equal(images_from_records(records, CLASSES).truth, [[1, np.nan], [0, 0]])


def test_groups_of_images():
    keys = [
        ("p1", "e1", "L"),
        ("p1", "e1", "L"),
        ("p1", "e1", "R"),
        ("p1", "e2", "L"),
        (None, None, "L"),
        (None, None, "L"),
    ]
    records = [
        {"image_id": n, "patient_id": p, "exam_id": e, "laterality": s, "annotations": []}
        for n, (p, e, s) in enumerate(keys)
    ]
    table = images_from_records(records, CLASSES)
    assert table.groups("patient").tolist() == [0, 0, 0, 0, 1, 2]
    assert table.groups("exam").tolist() == [0, 0, 0, 1, 2, 3]
    assert table.groups("breast").tolist() == [0, 0, 1, 2, 3, 4]
    assert table.groups("image").tolist() == list(range(6))
    assert table.patient_known.tolist() == [True] * 4 + [False] * 2
    with pytest.raises(ValueError, match="'side' is none of image, breast, exam, patient"):
        table.groups("side")


def test_images_without_laterality_are_breasts_of_their_own():
    records = [{"image_id": n, "patient_id": "p", "annotations": []} for n in range(2)]
    assert images_from_records(records, CLASSES).breast.tolist() == [0, 1]


def test_an_image_named_like_a_patient_is_not_that_patient():
    records = [{"image_id": "a", "annotations": []}, {"image_id": "b", "patient_id": "a", "annotations": []}]
    assert images_from_records(records, CLASSES).patient.tolist() == [0, 1]


def test_lesions_in_both_box_modes_with_area():
    records = [
        {"annotations": [box(0), {"bbox": [1.0, 2.0, 3.0, 4.0], "bbox_mode": 0, "category_id": 1, "area": 3.5}]},
        {"annotations": [box(1, iscrowd=1), box(1, ignore=1)]},
    ]
    table = lesions_from_records(records)
    assert table.boxes.tolist() == [[1, 2, 4, 6], [1, 2, 3, 4], [1, 2, 4, 6], [1, 2, 4, 6]]
    assert table.area.tolist() == [12, 3.5, 12, 12]
    assert (table.image.tolist(), table.label.tolist()) == ([0, 0, 1, 1], [0, 1, 1, 1])
    assert table.crowd.tolist() == [False, False, True, False]
    assert table.ignore.tolist() == [False, False, False, True]


def test_empty_data_set():
    images, lesions = images_from_records([], CLASSES), lesions_from_records([])
    assert (len(images), len(lesions), images.truth.shape, lesions.boxes.shape) == (0, 0, (0, 2), (0, 4))


def test_repeated_image_and_unknown_box_mode_are_named_errors():
    with pytest.raises(ValueError, match="image_id 7 appears in two records"):
        images_from_records([{"image_id": i, "annotations": []} for i in (3, 7, 7)], CLASSES)
    with pytest.raises(ValueError, match="bbox_mode 4"):
        lesions_from_records(
            [
                {"annotations": [{"bbox": [0, 0, 1, 1, 0], "bbox_mode": 4, "category_id": 0}][:0]},
                {"annotations": [{"bbox": [0, 0, 1, 1], "bbox_mode": 4, "category_id": 0}]},
            ]
        )
