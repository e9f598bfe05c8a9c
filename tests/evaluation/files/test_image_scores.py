"""Averages of image scores against hand-computed ones, and what is wrong with files."""

import json

import numpy as np
import pytest

from mammo_d2.evaluation.files.image_scores import (
    TOP_FILE,
    average_scores,
    find_image_scores,
    read_image_scores,
    top_runs,
)


def write(path, scores: dict, classes=("benign", "malignant")):
    """Scores {image_id: values in class order} as a run writes them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    entries = [{"image_id": i, "scores": dict(zip(classes, values, strict=True))} for i, values in scores.items()]
    path.write_text(json.dumps(entries))
    return path


class TestAverage:
    def test_hand_computed_in_any_order(self, tmp_path):
        one = write(tmp_path / "one.json", {7: (0.25, 1.0), 3: (0.5, 0.0)})
        other = write(tmp_path / "other.json", {3: (0.25, 1.0), 7: (0.5, 0.75)}, ("malignant", "benign"))
        mean = average_scores([read_image_scores(path) for path in (one, other)])
        assert (mean.ids, mean.classes, mean.source) == ((7, 3), ("benign", "malignant"), "mean of 2")
        # image 7: (0.25 + 0.75) / 2, (1 + 0.5) / 2; image 3: (0.5 + 1) / 2, (0 + 0.25) / 2
        assert mean.values.tolist() == [[0.5, 0.75], [0.75, 0.125]]

    def test_writes_what_it_reads(self, tmp_path):
        path = write(tmp_path / "a.json", {"x": (0.1, 0.9), "y": (0.3, 0.4)})
        assert average_scores([read_image_scores(path)]).entries() == json.loads(path.read_text())

    @pytest.mark.parametrize(
        ("scores", "classes", "message"),
        [
            (
                {1: (0.5, 0.5)},
                ("benign", "malignant"),
                r"b\.json: image_id: no score for 1 image\(s\): 2, unlike .*a\.json",
            ),
            ({1: (0, 0), 2: (0, 0), 9: (0, 0)}, ("benign", "malignant"), r"scores for 1 image\(s\): 9, unlike"),
            ({"1": (0, 0), "2": (0, 0)}, ("benign", "malignant"), "no score for 2 image.*ids of the same type"),
            ({1: (0,), 2: (0,)}, ("benign",), r"b\.json: no scores of class 'malignant', which .*a\.json has"),
            ({1: (0, 0, 0), 2: (0, 0, 0)}, ("benign", "malignant", "x"), r"a\.json: no scores of class 'x'"),
        ],
    )
    def test_members_that_do_not_fit(self, tmp_path, scores, classes, message):
        first = write(tmp_path / "a.json", {1: (0.5, 0.5), 2: (0.5, 0.5)})
        second = write(tmp_path / "b.json", scores, classes)
        with pytest.raises(ValueError, match=message):
            average_scores([read_image_scores(first), read_image_scores(second)])

    def test_each_member_once_and_at_least_one(self, tmp_path):
        one = read_image_scores(write(tmp_path / "a.json", {1: (0.5, 0.5)}))
        with pytest.raises(ValueError, match="is named twice"):
            average_scores([one, one])
        with pytest.raises(ValueError, match="nothing to average"):
            average_scores([])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON at line 1"),
        ("[]", "with one image"),
        ('{"image_id": 1}', "image scores are a list"),
        ('[{"image_id": 1}]', r"entry 0: .* must have an image_id and scores"),
        ('[{"image_id": null, "scores": {"a": 0.5}}]', "entry 0: .* must have an image_id"),
        ('[{"image_id": 1, "scores": {}}]', "entry 0: .* must have an image_id"),
        (
            '[{"image_id": 1, "scores": {"a": 0.5}}, {"image_id": 1, "scores": {"a": 0.5}}]',
            r"entry 1: image_id 1 is there twice \(entry 0\)",
        ),
        (
            '[{"image_id": 1, "scores": {"a": 0.5}}, {"image_id": 2, "scores": {"a": 0.5, "b": 0.1}}]',
            "entry 1: scores of the classes a, b, entry 0 has a",
        ),
        ('[{"image_id": 1, "scores": {"a": 1.5}}]', "entry 0: scores: a 1.5 must be a probability between 0 and 1"),
        ('[{"image_id": 1, "scores": {"a": -0.1}}]', "a -0.1 must be a probability"),
        ('[{"image_id": 1, "scores": {"a": null}}]', "a None must be a probability"),
        ('[{"image_id": 1, "scores": {"a": NaN}}]', "a nan must be a probability"),
        ('[{"image_id": 1, "scores": {"a": true}}]', "a True must be a probability"),
    ],
)
def test_bad_files_are_named_errors(tmp_path, content, message):
    path = tmp_path / "scores.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_image_scores(path)
    assert str(error.value).startswith(str(path))


class TestFind:
    def test_file_run_and_trial(self, tmp_path):
        path = write(tmp_path / "run" / "inference" / "toy_test" / "image_scores.json", {1: (0, 0)})
        assert find_image_scores(path) == find_image_scores(path.parent) == find_image_scores(tmp_path / "run") == path
        assert find_image_scores(tmp_path) == path  # a folder around a run, as cross-validation leaves it

    def test_several_data_sets_need_a_name(self, tmp_path):
        paths = [write(tmp_path / "inference" / name / "image_scores.json", {1: (0, 0)}) for name in ("a", "b")]
        with pytest.raises(ValueError, match=r"inference/a, inference/b; choose a data set with --dataset"):
            find_image_scores(tmp_path)
        assert find_image_scores(tmp_path, "b") == paths[1]
        with pytest.raises(FileNotFoundError, match="of data set 'c' in it; evaluate the run with 'image'"):
            find_image_scores(tmp_path, "c")

    def test_nothing_there(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="absent: no such file or folder"):
            find_image_scores(tmp_path / "absent")


class TestSearch:
    def trials(self, folder, content):
        (folder / TOP_FILE).write_text(json.dumps(content))
        return folder

    def test_the_first_ones_by_relative_or_full_path(self, tmp_path):
        for name in ("t3", "t1", "t2"):
            (tmp_path / name).mkdir()
        trials = [{"folder": "t3", "value": 0.9}, {"folder": str(tmp_path / "t1"), "value": 0.8, "number": 1}]
        trials.append({"folder": "t2"})
        self.trials(tmp_path, trials)
        assert top_runs(tmp_path, 2) == [tmp_path / "t3", tmp_path / "t1"]
        assert len(top_runs(tmp_path, 3)) == 3

    @pytest.mark.parametrize(
        ("content", "count", "message"),
        [
            ([{"folder": "t"}], 2, r"top\.json: 2 trials are asked for, it has 1; lower --top"),
            ({"folder": "t"}, 1, "no list but"),
            ([{"value": 0.5}], 1, 'entry 0: .* must have a "folder"'),
            (["t"], 1, 'entry 0: .* must have a "folder"'),
            ([{"folder": "gone"}], 1, "entry 0: folder 'gone' does not exist"),
            ([], 0, "--top 0 must be at least 1"),
        ],
    )
    def test_bad_files(self, tmp_path, content, count, message):
        with pytest.raises(ValueError, match=message):
            top_runs(self.trials(tmp_path, content), count)

    def test_no_search(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="name the folder of a finished search"):
            top_runs(tmp_path, 5)


def test_arranged_takes_a_class_out(tmp_path):
    scores = read_image_scores(write(tmp_path / "a.json", {1: (0.1, 0.2), 2: (0.3, 0.4)}))
    np.testing.assert_array_equal(scores.arranged((2, 1), ("malignant",), "truth"), [[0.4], [0.2]])
