import json
import os

import pytest

from mammo_d2.data.format.annotations import check_splits, load_coco, validate_coco
from mammo_d2.data.format.problems import SchemaError
from tests.data.format.coco_content import BOX, GOOD, changed


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


@pytest.mark.parametrize("images", [None, 3, "ab", {"a": 1}, [1, None]])
def test_images_that_are_no_list_of_objects(tmp_path, images):
    path = tmp_path / "train.json"
    path.write_text(json.dumps({"images": images, "categories": []}))
    assert check_splits([path, path]).problems == []
    assert "wrong-type" in {problem.code for problem in validate_coco(path).errors}


def test_a_text_is_no_coco_file(tmp_path):
    """It was taken for the path of another file, which was then read in its place."""
    (tmp_path / "other.json").write_text(json.dumps(GOOD))
    (tmp_path / "text.json").write_text(json.dumps(str(tmp_path / "other.json")))
    with pytest.raises(SchemaError, match=r"text\.json: the top level must be an object"):
        load_coco(tmp_path / "text.json")
