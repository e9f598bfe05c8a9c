"""Subgroups from keys of the ground truth, sizes and tables, and errors that name what is wrong."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.files.subgroup_columns import load_splits


@pytest.fixture
def truth(tmp_path):
    """Three images; lesions listed out of the images' order, one of a category that is not evaluated."""
    images = [
        {"id": 7, "patient_id": "p1", "view": "CC", "age": 49, "source": {"vendor": "a"}, "pixel_spacing": [0.1, 0.2]},
        {"id": 5, "patient_id": "p2", "view": "MLO", "age": 50, "source": {"vendor": "b"}},
        {"id": 6, "patient_id": "p2", "view": None, "age": None, "density": 2},
    ]
    annotations = [
        {"image_id": 5, "category_id": 1, "bbox": [10, 10, 30, 20], "pathology": "malignant"},
        {"image_id": 7, "category_id": 2, "bbox": [10, 10, 5, 5], "pathology": "other"},
        {"image_id": 7, "category_id": 1, "bbox": [10, 10, 20, 50], "pathology": "benign"},
        {"image_id": 7, "category_id": 1, "bbox": [50, 10, 60, 50]},
    ]
    categories = [{"id": 1, "name": "mass"}, {"id": 2, "name": "other"}]
    path = tmp_path / "truth.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return load_ground_truth(path, ["mass"])


def named(truth, text, table=None):
    (split,) = load_splits([text], truth, table)
    return [None if number < 0 else split.names[number] for number in split.group]


def test_keys_of_images(truth):
    assert named(truth, "view") == ["CC", "MLO", None]
    assert named(truth, "vendor") == named(truth, "source.vendor") == ["a", "b", None]
    assert named(truth, "density") == [None, None, "2"]
    assert named(truth, "age:50,60") == ["< 50", "50 to < 60", None]
    (split,) = load_splits(["age:50,60"], truth)
    assert split.names == ("< 50", "50 to < 60", ">= 60")
    assert not split.of_lesions


def test_lesions_follow_the_table(truth):
    assert truth.lesions.image.tolist() == [0, 0, 1]
    assert named(truth, "lesion.pathology") == ["benign", None, "malignant"]
    # Columns are 0.2 mm wide, rows 0.1 mm high: 20 x 50 px are 4 x 5 mm, 60 x 50 px are 12 x 5 mm.
    assert named(truth, "lesion.size_mm:5,10") == ["5 to < 10", ">= 10", None]
    assert named(truth, "lesion.size_px:50") == [">= 50", ">= 50", "< 50"]


def test_findings_that_are_only_ignored_have_no_annotation(truth):
    both = load_ground_truth(truth.path, ["mass"], ignore=["other"])
    assert named(both, "lesion.pathology") == ["benign", None, None, "malignant"]


def test_columns_of_a_table(truth, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("patient_id,site,score\np2,north,10\np9,south,5\n")
    assert named(truth, "site", table) == [None, "north", "north"]
    assert named(truth, "score:7", table) == [None, ">= 7", ">= 7"]
    table.write_text("image_id,view\n7,other\n6,\n")
    assert named(truth, "view", table) == ["other", None, None]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scanner", "no image has 'scanner'"),
        ("lesion.shape", "no lesion has 'shape'"),
        ("view:50", "view 'CC' must be a number"),
        ("age:60,50", "cut points must be rising numbers"),
        ("age:x", "cut points must be rising numbers"),
        ("source", "source .* must be text or a number"),
    ],
)
def test_bad_columns_are_named_errors(truth, text, message):
    with pytest.raises(ResultsError, match=message):
        load_splits([text], truth)


def test_bad_tables_are_named_errors(truth, tmp_path):
    table = tmp_path / "t.csv"
    for content, message in (
        ("name,site\nx,1\n", "must name image_id or patient_id"),
        ("image_id,site\n7,1\n7,2\n", "line 3: image_id '7' is there twice"),
        ("image_id,site\n8,1\n", "none of its image_id is in"),
    ):
        table.write_text(content)
        with pytest.raises(ResultsError, match=message):
            load_splits(["site"], truth, table)


def test_many_values_are_no_subgroups(truth, tmp_path):
    content = json.loads((tmp_path / "truth.json").read_text())
    content["images"] = [{"id": n, "age": n} for n in range(20)]
    content["annotations"] = []
    (tmp_path / "many.json").write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="age has 20 values, at most 12 are subgroups"):
        load_splits(["age"], load_ground_truth(tmp_path / "many.json"))
    (split,) = load_splits(["age:5,10"], load_ground_truth(tmp_path / "many.json"))
    assert np.bincount(split.group).tolist() == [5, 5, 10]
