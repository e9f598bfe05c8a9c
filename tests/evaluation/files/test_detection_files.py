"""Detections as tables (.npz, .parquet) are read like COCO results, errors included."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.files.box_tables import load_image_scores
from mammo_d2.evaluation.files.coco_files import load_ground_truth
from mammo_d2.evaluation.files.detection_files import load_detections, write_detections
from mammo_d2.evaluation.files.results import ResultsError
from tests.evaluation.scenes import random_data


@pytest.fixture(params=[".npz", ".parquet"])
def suffix(request):
    if request.param == ".parquet":
        pytest.importorskip("pyarrow")
    return request.param


def truth_with(tmp_path, ids):
    content = {
        "images": [{"id": i, "height": 60, "width": 60} for i in ids],
        "annotations": [{"id": 1, "image_id": ids[0], "category_id": 3, "bbox": [5, 5, 10, 10]}],
        "categories": [{"id": 3, "name": "malignant"}, {"id": 4, "name": "benign"}],
    }
    path = tmp_path / "truth.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("kind", [int, str])
def test_every_kind_of_file_gives_the_same_table(tmp_path, suffix, kind):
    ids = [kind(n + 7) for n in range(12)]
    truth = load_ground_truth(truth_with(tmp_path, ids))
    detections = random_data(0).detections
    tables = []
    for name in ("results.json", f"results{suffix}"):
        path = write_detections(tmp_path / name, detections, truth.images, (3, 4))
        table, notes = load_detections(path, truth)
        tables.append(table)
        assert notes == {}
    for column in ("boxes", "scores", "image", "label"):
        np.testing.assert_array_equal(getattr(tables[0], column), getattr(tables[1], column))
    assert len(tables[0]) == len(detections)
    only = load_ground_truth(truth.path, ["benign"])
    assert load_detections(path, only)[1] == {"detections of other categories": int((detections.label == 0).sum())}


def columns_with(**changed):
    values = {"image_id": [1, 2], "category_id": [3, 3], "x": [1.0, 2], "y": [1.0, 2], "width": [5.0, 5]}
    values |= {"height": [5.0, 5], "score": [0.5, 0.25], **changed}
    return {name: np.array(value) for name, value in values.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": [1, 9]}, "entry 1: image_id 9 is not in the ground truth"),
        ({"image_id": ["1", "2"]}, "entry 0: image_id '1' is a str, the ground truth's ids are int"),
        ({"category_id": [3, 5]}, "entry 1: category_id 5 is not in the ground truth"),
        ({"score": [0.5, np.nan]}, "entry 1: score nan must be a finite number"),
        ({"width": [5.0, -1]}, "entry 1: bbox .* has a negative size"),
        ({"x": [1.0, 99]}, "entry 1: bbox .* centre outside"),
        ({"score": None}, "column 'score' is missing"),
        ({"score": ["0.5", "0.25"]}, "column score holds <U4, not numbers"),
        ({"score": [0.5]}, r"score \(1,\): all must be lists of one length"),
    ],
)
def test_bad_tables_are_named_errors(tmp_path, changed, message):
    truth = load_ground_truth(truth_with(tmp_path, [1, 2]))
    np.savez(tmp_path / "a.npz", **columns_with(**changed))
    with pytest.raises(ResultsError, match=message):
        load_detections(tmp_path / "a.npz", truth)


def test_files_that_are_no_tables_are_named_errors(tmp_path, suffix):
    truth = load_ground_truth(truth_with(tmp_path, [1, 2]))
    path = tmp_path / f"a{suffix}"
    with pytest.raises(FileNotFoundError):
        load_detections(path, truth)
    path.write_bytes(b"no table at all")
    with pytest.raises(ResultsError, match=r"a\.(npz|parquet): (damaged|not a Parquet file)"):
        load_detections(path, truth)


def test_missing_values_of_parquet(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    truth = load_ground_truth(truth_with(tmp_path, ["a", "b"]))
    columns = {name: values.tolist() for name, values in columns_with(image_id=["a", "b"]).items()}
    parquet.write_table(pyarrow.table({**columns, "score": [0.5, None]}), tmp_path / "a.parquet")
    with pytest.raises(ResultsError, match="entry 1: score nan"):
        load_detections(tmp_path / "a.parquet", truth)
    parquet.write_table(pyarrow.table({**columns, "image_id": ["a", None]}), tmp_path / "a.parquet")
    with pytest.raises(ResultsError, match="column image_id holds object"):
        load_detections(tmp_path / "a.parquet", truth)


def test_image_scores_as_tables(tmp_path, suffix):
    from mammo_d2.evaluation.files.column_files import write_columns

    truth = load_ground_truth(truth_with(tmp_path, [1, 2, 3]))
    path = tmp_path / f"scores{suffix}"
    write_columns(path, {"image_id": np.array([3, 1]), "malignant": np.array([0.75, np.nan])})
    np.testing.assert_array_equal(
        load_image_scores(path, truth)[:, truth.images.classes.index("malignant")], [np.nan, np.nan, 0.75]
    )
    for columns, message in (
        ({"image_id": [3, 3], "benign": [0.5, 0.5]}, "image_id 3 is there twice"),
        ({"image_id": [4], "benign": [0.5]}, "image_id 4 is not in the ground truth"),
        ({"image_id": [1], "other": [0.5]}, "no column of malignant, benign"),
        ({"image_id": [1], "benign": [np.inf]}, "column benign must hold finite numbers"),
    ):
        write_columns(path, {name: np.array(values) for name, values in columns.items()})
        with pytest.raises(ResultsError, match=message):
            load_image_scores(path, truth)


def test_an_id_beyond_64_bits_stays_what_it_is(tmp_path):
    large = 2**70
    truth = load_ground_truth(truth_with(tmp_path, [large, large + 2]))
    entry = {"image_id": large + 1, "category_id": 3, "bbox": [1, 1, 5, 5], "score": 0.5}
    (tmp_path / "r.json").write_text(json.dumps([entry]))
    with pytest.raises(ResultsError, match=f"image_id {large + 1} is not in the ground truth"):
        load_detections(tmp_path / "r.json", truth)
