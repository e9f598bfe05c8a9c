import copy
import json
import math
import os

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mammo_d2.data.format.annotations import check_splits, load_coco, validate_coco
from mammo_d2.data.format.problems import SchemaError

GOOD = {
    "images": [
        {"id": 1, "file_name": "a.png", "height": 100, "width": 80, "patient_id": "p1", "laterality": "L", "view": "CC",
         "labels": {"benign": 0, "malignant": 1}, "pixel_spacing": [0.1, 0.1], "breast_box": [0, 0, 60, 100],
         "transform": {"source_size": [200, 160], "crop": [0, 0, 160, 200], "flip": False, "scale": [0.5, 0.5]},
         "source": {"file": "a.dcm", "sha256": "00"}},
        {"id": 2, "file_name": "b.png", "height": 100, "width": 80, "patient_id": "p2", "labels": {"malignant": None}},
    ],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": [10, 20, 30, 40], "area": 1200, "iscrowd": 0}],
    "categories": [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}],
}  # fmt: skip


def changed(path, value):
    """GOOD with the entry at ``path`` set to ``value`` (``...`` deletes it)."""
    data = copy.deepcopy(GOOD)
    *parents, last = path
    target = data
    for step in parents:
        target = target[step]
    if value is ...:
        del target[last]
    else:
        target[last] = value
    return data


def test_good_file_has_no_problems():
    assert validate_coco(GOOD).problems == []


def test_image_without_annotations_is_fine():
    data = changed(["annotations"], [])
    assert validate_coco(data).problems == []


IMAGE, BOX = ["images", 0], ["annotations", 0]


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


def test_duplicate_annotation_ids():
    data = copy.deepcopy(GOOD)
    data["annotations"].append(dict(data["annotations"][0]))
    report = validate_coco(data)
    assert [(p.code, p.record) for p in report.errors] == [("duplicate-id", "annotation 1")]


def test_message_is_one_line_with_everything(tmp_path):
    (tmp_path / "t.json").write_text(json.dumps(changed([*BOX, "bbox"], [10, 20, 0, 40])))
    with pytest.raises(SchemaError) as caught:
        load_coco(tmp_path / "t.json")
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}/t.json: annotation 1.bbox = [10, 20, 0, 40]: has zero or negative area; a box")
    assert "\n" not in text


def test_several_errors_are_lines(tmp_path):
    data = changed([*BOX, "bbox"], [10, 20, 0, 40])
    data["annotations"][0]["category_id"] = 77
    (tmp_path / "t.json").write_text(json.dumps(data))
    with pytest.raises(SchemaError, match=r"^2 errors\nerror: .*77.*\nerror: .*zero or negative area"):
        load_coco(tmp_path / "t.json")


def test_warnings_are_logged_once_for_each_state_of_the_file(tmp_path, caplog):
    path = tmp_path / "t.json"
    path.write_text(json.dumps(changed([*BOX, "bbox"], [-5, 20, 30, 40])))

    def logged():
        caplog.clear()
        load_coco(path)
        return [r.getMessage() for r in caplog.records if "reaches outside" in r.getMessage()]

    (text,) = logged()
    assert text.startswith(str(path))
    assert logged() == []
    os.utime(path, ns=(1, 1))
    assert len(logged()) == 1


def test_report_limits_what_it_prints():
    data = copy.deepcopy(GOOD)
    data["annotations"] = [{"id": i, "image_id": 9, "category_id": 1, "bbox": [1, 1, 1, 1]} for i in range(1, 31)]
    lines = validate_coco(data).format(limit=3).splitlines()
    assert len(lines) == 5
    assert lines[3:] == ["error: ... and 27 more of unknown-image", "30 errors, 0 warnings"]


def test_load_clips_and_completes(tmp_path):
    data = changed([*BOX, "bbox"], [-5, 80, 30, 40])
    del data["annotations"][0]["area"], data["annotations"][0]["iscrowd"]
    path = tmp_path / "t.json"
    path.write_text(json.dumps(data))
    annotation = load_coco(path)["annotations"][0]
    assert annotation["bbox"] == [0, 80, 25, 20]
    assert (annotation["area"], annotation["iscrowd"]) == (500, 0)
    assert load_coco(path, clip_boxes=False)["annotations"][0]["bbox"] == [-5, 80, 30, 40]


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.json: no such file; .*prepare the data set"):
        load_coco(tmp_path / "none.json")
    path = tmp_path / "t.json"
    path.write_text('{"images": [1, ')
    with pytest.raises(SchemaError, match=r"t\.json: not valid JSON at line 1 column 16"):
        load_coco(path)
    path.write_text("[]")
    with pytest.raises(SchemaError, match="top level must be an object"):
        validate_coco(path)
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(SchemaError, match="not UTF-8"):
        validate_coco(path)


# --- image files ------------------------------------------------------------------------------------------------------
@pytest.fixture
def image_root(tmp_path):
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.arange(8000, dtype=np.uint16).reshape(100, 80))
    return tmp_path


@pytest.mark.parametrize("how", ["exists", "size", "full"])
def test_image_files_that_are_right(image_root, how):
    assert validate_coco(GOOD, image_root, check_images=how).problems == []


def test_missing_image(image_root):
    (image_root / "b.png").unlink()
    report = validate_coco(GOOD, image_root, check_images="exists")
    assert [(p.code, p.record, p.value) for p in report.errors] == [("missing-image", "image 2", "b.png")]


def test_wrong_size(image_root):
    cv2.imwrite(str(image_root / "a.png"), np.zeros((10, 20), np.uint8))
    report = validate_coco(GOOD, image_root, check_images="size")
    assert [(p.code, p.record, p.value) for p in report.errors] == [("wrong-size", "image 1", [100, 80])]
    assert "height 10 and width 20" in str(report.errors[0])


def test_truncated_image_is_found_by_the_full_check(image_root):
    data = (image_root / "a.png").read_bytes()
    (image_root / "a.png").write_bytes(data[: len(data) // 2])
    report = validate_coco(GOOD, image_root, check_images="full")
    assert [(p.code, p.record) for p in report.errors] == [("unreadable-image", "image 1")]
    assert "truncated PNG" in report.errors[0].message


def test_check_images_arguments():
    with pytest.raises(ValueError, match="needs image_root"):
        validate_coco(GOOD, check_images="size")
    with pytest.raises(ValueError, match="check_images 'all' must be one of"):
        validate_coco(GOOD, check_images="all")


# --- splits -----------------------------------------------------------------------------------------------------------
def write_split(path, patients, hashes):
    images = [
        {"id": i, "patient_id": p, "source": {"sha256": h}}
        for i, (p, h) in enumerate(zip(patients, hashes, strict=True))
    ]
    path.write_text(json.dumps({"images": images}))
    return path


def test_patient_in_both_splits(tmp_path):
    train = write_split(tmp_path / "train.json", ["p1", "p2", "p2"], ["a", "b", "c"])
    test = write_split(tmp_path / "test.json", ["p2", "p2", "p3"], ["d", "e", "c"])
    report = check_splits([train, test])
    assert [(p.field, p.value) for p in report.errors] == [("patient_id", "p2"), ("source.sha256", "c")]
    assert str(train) in report.errors[0].message
    assert report.errors[0].file == str(test)


def test_clean_splits_and_unknown_patients(tmp_path):
    train = write_split(tmp_path / "train.json", ["p1", None], ["a", None])
    test = write_split(tmp_path / "test.json", ["p2", None], ["b", None])
    assert check_splits([train, test]).problems == []
