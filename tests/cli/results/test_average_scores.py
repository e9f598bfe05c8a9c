"""``average-scores`` from files to files, with areas counted by hand."""

import json

import pytest

from mammo_d2.cli.results.average_scores import run
from mammo_d2.cli.results.evaluate import run as evaluate
from mammo_d2.evaluation.files.image_scores import TOP_FILE
from tests.evaluation.files.test_image_scores import write

# Four patients with two views of a left breast each; a and b malignant.
ONE = {"a": (0.9, 0.7), "b": (0.4, 0.2), "c": (0.5, 0.3), "d": (0.1, 0.1)}
TWO = {"a": (0.1, 0.3), "b": (0.8, 0.8), "c": (0.1, 0.1), "d": (0.3, 0.1)}
READER = {"a": 0.2, "b": 0.4, "c": 0.52, "d": 0.0}
# (image, breast): pairs of a positive and a negative in the right order, ties half, of 16 and of 4.
EXPECTED_ONE, EXPECTED_TWO = (13 / 16, 3 / 4), (13 / 16, 3.5 / 4)
EXPECTED_READER, EXPECTED_MIXED = (8 / 16, 2 / 4), (12 / 16, 3 / 4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A ground truth, two runs, the top list of a search over them, and a reader's table; also where we are."""
    images = [
        {
            "id": f"{patient}{view}", "file_name": f"{patient}{view}.png", "height": 10, "width": 10,
            "patient_id": patient, "exam_id": "1", "laterality": "L", "view": view,
            "labels": {"benign": 0, "malignant": int(patient in "ab")},
        }
        for patient in "abcd" for view in ("CC", "MLO")
    ]  # fmt: skip
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    (tmp_path / "gt.json").write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
    for name, scores in (("one", ONE), ("two", TWO)):
        rows = {f"{p}{v}": (0.5, scores[p][k]) for p in scores for k, v in enumerate(("CC", "MLO"))}
        write(tmp_path / name / "inference" / "toy" / "image_scores.json", rows)
    (tmp_path / TOP_FILE).write_text(json.dumps([{"folder": name, "value": 0.5} for name in ("two", "one")]))
    lines = ["patient_id,laterality,malignant", *(f"{patient},L,{score}" for patient, score in READER.items())]
    (tmp_path / "reader.csv").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def areas(folder, system):
    classes = json.loads((folder / "out" / "auc.json").read_text())["systems"][system]
    return tuple(classes["malignant"][level]["auc"] for level in ("image", "breast"))


def test_runs_their_mean_and_a_reader(folder, capsys):
    assert run(["one", "two", "--ground-truth", "gt.json", "--reader", "reader.csv", "--output", "out"]) == 0
    sources = [f"{name}/inference/toy/image_scores.json" for name in ("one", "two")]
    assert areas(folder, sources[0]) == pytest.approx(EXPECTED_ONE)
    assert areas(folder, sources[1]) == pytest.approx(EXPECTED_TWO)
    # means of the views: a 0.5, 0.5; b 0.6, 0.5; c 0.3, 0.2; d 0.2, 0.1
    assert areas(folder, "mean of 2") == (1, 1)
    assert areas(folder, "reader") == pytest.approx(EXPECTED_READER)
    # with the reader: a 0.35, 0.35; b 0.5, 0.45; c 0.41, 0.36; d 0.1, 0.05
    assert areas(folder, "mean of 2 + 0.5 reader") == pytest.approx(EXPECTED_MIXED)
    systems = json.loads((folder / "out" / "auc.json").read_text())["systems"]
    cell = systems[sources[0]]["malignant"]["breast"]
    assert (cell["num_positive"], cell["num_negative"]) == (2, 2)
    assert cell["low"] < cell["auc"] < cell["high"]
    assert systems["reader"]["benign"]["image"]["auc"] is None  # no column of that class, and no positive
    written = {e["image_id"]: e["scores"] for e in json.loads((folder / "out" / "image_scores.json").read_text())}
    assert written["bCC"] == pytest.approx({"benign": 0.5, "malignant": 0.6})
    mixed = json.loads((folder / "out" / "image_scores_with_reader.json").read_text())
    assert {e["image_id"]: e["scores"]["malignant"] for e in mixed}["cMLO"] == pytest.approx(0.36)
    printed = capsys.readouterr().out
    assert "0.812 (" in printed
    assert "malignant, patient: 2 positive, 2 negative" in printed
    assert "n/a" in printed


def test_best_of_a_search(folder):
    assert run(["--search", ".", "--top", "2", "--ground-truth", "gt.json", "--output", "out"]) == 0
    assert areas(folder, "mean of 2") == (1, 1)
    assert not (folder / "out" / "image_scores_with_reader.json").exists()
    assert run(["--search", ".", "--top", "1", "--ground-truth", "gt.json", "--output", "out"]) == 0
    systems = json.loads((folder / "out" / "auc.json").read_text())["systems"]
    assert list(systems) == ["two/inference/toy/image_scores.json"]  # alone it is its own mean


def test_runs_with_merged_categories(folder, capsys):
    """Their one class is no category: who shows benign or malignant is positive, by label or box."""
    truth = json.loads((folder / "gt.json").read_text())
    labels = {"a": (0, 1), "b": (1, 0), "c": (0, 0), "d": (None, 0)}
    for image in truth["images"]:
        image["labels"] = dict(zip(("benign", "malignant"), labels[image["patient_id"]], strict=True))
    (folder / "gt.json").write_text(json.dumps(truth))
    for name, scores in (("one", ONE), ("two", TWO)):
        rows = [
            {"image_id": f"{p}{v}", "scores": {"lesion": scores[p][k]}}
            for p in scores for k, v in enumerate(("CC", "MLO"))
        ]  # fmt: skip
        (folder / name / "inference" / "toy" / "image_scores.json").write_text(json.dumps(rows))
    arguments = ["one", "two", "--ground-truth", "gt.json", "--output", "out"]
    with pytest.raises(ValueError, match=r"gt\.json: no category named 'lesion'.*named with --merge lesion"):
        run(arguments)
    assert run([*arguments, "--merge", "lesion"]) == 0
    systems = json.loads((folder / "out" / "auc.json").read_text())["systems"]
    # d is unknown. One: a 0.9, 0.7 and b 0.4, 0.2 against c 0.5, 0.3; two: 0.1, 0.3 and 0.8, 0.8 against 0.1, 0.1.
    assert systems["one/inference/toy/image_scores.json"]["lesion"]["image"]["auc"] == pytest.approx(5 / 8)
    assert systems["two/inference/toy/image_scores.json"]["lesion"]["image"]["auc"] == pytest.approx(7 / 8)
    cell = systems["mean of 2"]["lesion"]["image"]
    assert (cell["auc"], cell["num_positive"], cell["num_negative"]) == (1, 4, 2)
    written = {e["image_id"]: e["scores"] for e in json.loads((folder / "out" / "image_scores.json").read_text())}
    assert written["bCC"] == {"lesion": pytest.approx(0.6)}
    # Merged from malignant alone, b is negative and d known: 0.5, 0.5 against 0.6, 0.5, 0.3, 0.2, 0.2, 0.1.
    run([*arguments, "--classes", "malignant", "--merge", "lesion"])
    cell = json.loads((folder / "out" / "auc.json").read_text())["systems"]["mean of 2"]["lesion"]["image"]
    assert (cell["auc"], cell["num_negative"]) == (pytest.approx(9 / 12), 6)
    study = ["--ground-truth", "gt.json", "--bootstrap", "0", "--output", "study", "--merge", "lesion"]
    assert evaluate([*study, "--image-scores", "out/image_scores.json"]) == 0
    metrics = json.loads((folder / "study" / "metrics.json").read_text())["systems"]["image_scores"]["metrics"]
    assert metrics["image/auc"]["value"] == 1


def test_one_of_the_scored_classes_with_a_reader(folder):
    run(["one", "--ground-truth", "gt.json", "--reader", "reader.csv", "--classes", "malignant", "--output", "out"])
    assert areas(folder, "reader") == pytest.approx(EXPECTED_READER)


def test_what_is_written_can_be_evaluated(folder):
    run(["one", "two", "--ground-truth", "gt.json", "--output", "out"])
    arguments = ["--ground-truth", "gt.json", "--bootstrap", "0", "--output", "study", "--image-scores"]
    files = ["one/inference/toy/image_scores.json", "out/image_scores.json"]
    assert evaluate([*arguments, *files, "--names", "one", "mean"]) == 0
    systems = json.loads((folder / "study" / "metrics.json").read_text())["systems"]
    assert systems["one"]["metrics"]["image/auc"]["value"] == pytest.approx(EXPECTED_ONE[0])
    assert systems["mean"]["metrics"]["image/auc"]["value"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to average"),
        (["one", "one"], "is named twice"),
        (["one", "--confidence", "95"], "--confidence 95 must lie between 0 and 1"),
        (["one", "--reader", "reader.csv", "--reader-weight", "2"], r"--reader-weight 2\.0"),
        (["one", "--dataset", "other"], "no image_scores.json of data set 'other'"),
        (["--search", ".", "--top", "3"], "3 trials are asked for, it has 2"),
    ],
)
def test_bad_arguments(folder, arguments, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(["--ground-truth", "gt.json", *arguments])


def test_scores_of_other_images(folder):
    content = json.loads((folder / "gt.json").read_text())
    content["images"].pop()
    (folder / "gt.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"image_id: scores for 1 image\(s\): 'dMLO', unlike gt\.json"):
        run(["one", "two", "--ground-truth", "gt.json"])
