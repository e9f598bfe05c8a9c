import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.data.format.annotations import validate_coco
from tests.data.format.coco_content import BOX, GOOD, IMAGE, changed


def test_good_file_has_no_problems():
    assert validate_coco(GOOD).problems == []


def test_image_without_annotations_is_fine():
    data = changed(["annotations"], [])
    assert validate_coco(data).problems == []


@pytest.mark.parametrize(
    ("path", "value", "code", "record", "field"),
    [
        ([*BOX, "id"], 0, "annotation-id-zero", "annotation 0", "id"),
        ([*BOX, "id"], "1", "wrong-type", "annotation 1", "id"),
        ([*BOX, "id"], -3, "out-of-range", "annotation -3", "id"),
        ([*BOX, "id"], True, "wrong-type", "annotation True", "id"),
        ([*BOX, "image_id"], 7, "unknown-image", "annotation 1", "image_id"),
        ([*BOX, "image_id"], "1", "unknown-image", "annotation 1", "image_id"),
        ([*BOX, "category_id"], 3, "unknown-category", "annotation 1", "category_id"),
        ([*BOX, "category_id"], "malignant", "unknown-category", "annotation 1", "category_id"),
        ([*BOX, "bbox"], [10, 20, 0, 40], "empty-box", "annotation 1", "bbox"),
        ([*BOX, "bbox"], [10, 20, 30, -1], "empty-box", "annotation 1", "bbox"),
        ([*BOX, "bbox"], [80, 20, 10, 10], "box-outside", "annotation 1", "bbox"),
        ([*BOX, "bbox"], [-20, 20, 15, 10], "box-outside", "annotation 1", "bbox"),
        ([*BOX, "bbox"], [10, math.nan, 30, 40], "nan-box", "annotation 1", "bbox"),
        ([*BOX, "bbox"], [10, 20, math.inf, 40], "nan-box", "annotation 1", "bbox"),
        ([*BOX, "bbox"], [10, 20, 30], "bad-box", "annotation 1", "bbox"),
        ([*BOX, "bbox"], "10 20 30 40", "bad-box", "annotation 1", "bbox"),
        ([*BOX, "bbox"], ..., "missing-key", "annotation 1", "bbox"),
        ([*BOX, "area"], -1, "bad-area", "annotation 1", "area"),
        ([*BOX, "iscrowd"], 2, "wrong-type", "annotation 1", "iscrowd"),
        ([*BOX, "segmentation"], [[1, 2, 3]], "bad-segmentation", "annotation 1", "segmentation"),
        ([*BOX, "pathology"], 4, "wrong-type", "annotation 1", "pathology"),
        ([*IMAGE, "id"], 2, "duplicate-id", "image 2", "id"),
        ([*IMAGE, "id"], "x", "wrong-type", "image x", "id"),
        ([*IMAGE, "file_name"], "b.png", "duplicate-file", "image 2", "file_name"),
        ([*IMAGE, "file_name"], "", "wrong-type", "image 1", "file_name"),
        ([*IMAGE, "file_name"], "../a.png", "unsafe-path", "image 1", "file_name"),
        ([*IMAGE, "file_name"], "/data/a.png", "unsafe-path", "image 1", "file_name"),
        ([*IMAGE, "file_name"], "D:\\a.png", "unsafe-path", "image 1", "file_name"),
        ([*IMAGE, "height"], 10**400, "out-of-range", "image 1", "height"),
        ([*IMAGE, "breast_box"], [10**400, 1, 1, 1], "bad-box", "image 1", "breast_box"),
        ([*IMAGE, "pixel_spacing"], [10**400, 1], "bad-spacing", "image 1", "pixel_spacing"),
        ([*IMAGE, "transform", "scale"], [1e300, 1e300], "bad-transform", "image 1", "transform"),
        ([*IMAGE, "transform", "scale"], [1e308, 1e308], "bad-transform", "image 1", "transform"),
        ([*IMAGE, "transform", "scale"], [10**400, 1], "bad-transform", "image 1", "transform"),
        ([*IMAGE, "transform", "source_size"], [10**400, 1], "bad-transform", "image 1", "transform"),
        ([*BOX, "bbox"], [10**400, 1, 1, 1], "bad-box", "annotation 1", "bbox"),
        ([*BOX, "area"], 10**400, "bad-area", "annotation 1", "area"),
        ([*BOX, "segmentation"], [[10**400, 1, 1, 1, 1, 1]], "bad-segmentation", "annotation 1", "segmentation"),
        ([*IMAGE, "height"], ..., "missing-key", "image 1", "height"),
        ([*IMAGE, "height"], 100.0, "wrong-type", "image 1", "height"),
        ([*IMAGE, "width"], 0, "out-of-range", "image 1", "width"),
        ([*IMAGE, "laterality"], "left", "bad-laterality", "image 1", "laterality"),
        ([*IMAGE, "view"], "mlo", "bad-view", "image 1", "view"),
        ([*IMAGE, "labels"], [0, 1], "bad-labels", "image 1", "labels"),
        ([*IMAGE, "labels", "malignant"], 2, "bad-labels", "image 1", "labels.malignant"),
        ([*IMAGE, "labels", "malignant"], True, "bad-labels", "image 1", "labels.malignant"),
        ([*IMAGE, "pixel_spacing"], [0.1, 0], "bad-spacing", "image 1", "pixel_spacing"),
        ([*IMAGE, "breast_box"], [0, 0, 10], "bad-box", "image 1", "breast_box"),
        ([*IMAGE, "patient_id"], ["p"], "wrong-type", "image 1", "patient_id"),
        ([*IMAGE, "source"], "a.dcm", "wrong-type", "image 1", "source"),
        ([*IMAGE, "transform", "scale"], [1.0, 1.0], "transform-size", "image 1", "transform"),
        ([*IMAGE, "transform", "crop"], [0, 0, 500, 200], "bad-transform", "image 1", "transform"),
        (["images", 1], "b.png", "wrong-type", "images[1]", ""),
        (["images"], ..., "missing-key", "file", "images"),
        (["images"], {}, "wrong-type", "file", "images"),
        (["categories", 1, "id"], 1, "duplicate-id", "category 1", "id"),
        (["categories", 1, "name"], "benign", "duplicate-name", "category 2", "name"),
        (["categories", 1, "name"], ..., "missing-key", "category 2", "name"),
    ],
)
def test_each_error_names_record_and_field(path, value, code, record, field):
    report = validate_coco(changed(path, value), name="train.json")
    found = [p for p in report.errors if p.code == code]
    assert len(found) == 1, report.format()
    assert (found[0].file, found[0].record, found[0].field) == ("train.json", record, field)
    assert found[0].remedy


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        ([*BOX, "bbox"], [-5, 20, 30, 40], "box-partly-outside"),
        ([*IMAGE, "breast_box"], [0, 0, 90, 100], "breast-box-outside"),
        ([*IMAGE, "labels", "malignant"], 0, "label-contradiction"),
        ([*IMAGE, "patient_id"], None, "no-patient-id"),
        (["annotations"], ..., "missing-key"),
        ([*IMAGE, "labels"], {"cancer": 1}, "bad-labels"),
    ],
)
def test_each_warning(path, value, code):
    report = validate_coco(changed(path, value))
    assert report.ok
    assert [p.code for p in report.warnings] == [code]


@pytest.mark.parametrize("boxes", [[[0.1, 0.2, 0.3, 0.4]], [[0, 0, 1, 1], [0.5, 0.5, 0.25, 0.5]]])
def test_boxes_in_fractions_of_the_image(boxes):
    entries = [{**GOOD["annotations"][0], "id": n, "bbox": box} for n, box in enumerate(boxes, start=1)]
    data = changed(["annotations"], entries)
    (problem,) = validate_coco(data).errors
    assert (problem.code, problem.record, problem.value) == ("box-unit", f"all {len(boxes)} annotations", boxes[0])
    # One box of pixels, and they are pixels.
    entries.append({**GOOD["annotations"][0], "id": 9})
    assert validate_coco(data).errors == []


def test_one_file_in_two_spellings():
    data = copy.deepcopy(GOOD)
    image = {**data["images"][0], "id": 77}
    for name in (f"./{image['file_name']}", f"x/../{image['file_name']}".replace("x/../", ".//")):
        data["images"] = [data["images"][0], {**image, "file_name": name}]
        assert [problem.code for problem in validate_coco(data).errors] == ["duplicate-file"]


def test_duplicate_annotation_ids():
    data = copy.deepcopy(GOOD)
    data["annotations"].append(dict(data["annotations"][0]))
    report = validate_coco(data)
    assert [(p.code, p.record) for p in report.errors] == [("duplicate-id", "annotation 1")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 200) | st.floats() | st.sampled_from(["", "L", "benign", "a.png"]),
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from(["id", "bbox", "crop"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELDS = [[key] for key in GOOD] + [
    [key, 0, field] for key in GOOD for field in [*GOOD[key][0], "segmentation", "pathology", "exam_id"]
]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), JSON, st.sampled_from(FIELDS), JSON)
def test_no_value_makes_the_validator_itself_fail(path, value, other_path, other):
    data = changed(path, value)
    try:
        target = data
        for step in other_path[:-1]:
            target = target[step]
        target[other_path[-1]] = other
    except (TypeError, KeyError, IndexError):
        pass  # the first change took the place of the second away
    assert isinstance(validate_coco(data).format(), str)
