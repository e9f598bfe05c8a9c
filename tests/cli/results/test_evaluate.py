"""``evaluate`` from files to files: numbers, comparison, every output, and errors a person can read."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.evaluate import build_parser, preset_of, run
from mammo_d2.evaluation.files.results import ResultsError, detections_to_coco
from tests.conftest import ROOT
from tests.evaluation.files.test_predicted_files import PREPARED, SOURCE, write_predictions, write_truth
from tests.evaluation.scenes import random_data


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A ground truth of 60 images (two classes, 30 patients), two systems and image scores of one."""
    folder = tmp_path_factory.mktemp("study")
    data = random_data(4, images=60)
    boxes = data.lesions.boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    annotations = [
        {"id": n, "image_id": int(i), "category_id": int(c) + 1, "bbox": b.tolist()}
        for n, (i, c, b) in enumerate(zip(data.lesions.image, data.lesions.label, boxes, strict=True), start=1)
    ]
    images = [
        {
            "id": n,
            "height": 60,
            "width": 60,
            "patient_id": n // 2,
            "laterality": "LR"[n % 2],
            "pixel_spacing": [0.1, 0.1],
        }
        for n in range(60)
    ]
    categories = [{"id": 1, "name": "benign"}, {"id": 2, "name": "malignant"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "gt.json").write_text(json.dumps(content))
    good = detections_to_coco(data.detections, data.images, (1, 2))
    (folder / "good.json").write_text(json.dumps(good))
    noise = np.random.default_rng(0).random(len(good))
    bad = [{**entry, "score": float(s)} for entry, s in zip(good, noise, strict=True)]
    (folder / "bad.json").write_text(json.dumps(bad))
    scores = ["image_id,malignant", *(f"{n},{data.images.truth[n, 1] * 0.5 + 0.25}" for n in range(60))]
    (folder / "scores.csv").write_text("\n".join(scores))
    return folder


def metrics_of(path):
    return json.loads((path / "metrics.json").read_text())


def test_images_with_both_systems(folder, tmp_path):
    arguments = [str(folder / "good.json"), str(folder / "bad.json"), "--ground-truth", str(folder / "gt.json")]
    arguments += ["--bootstrap", "0", "--one-threshold", "--viewer", "--preset", "luna16"]
    with pytest.raises(ValueError, match="name a folder with --output"):
        run(arguments)
    arguments += ["--output", str(tmp_path / "out")]
    with pytest.raises(FileNotFoundError, match="name the folder of the images, --images FOLDER"):
        run(arguments)
    with pytest.raises(ResultsError, match="image 0 has no file_name, which the viewer needs"):
        run([*arguments, "--images", str(folder)])
    truth = json.loads((folder / "gt.json").read_text())
    for image in truth["images"]:
        image["file_name"] = f"{image['id']} <b>.png"
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    arguments[arguments.index(str(folder / "gt.json"))] = str(tmp_path / "gt.json")
    assert run([*arguments, "--images", str(folder)]) == 0
    text = (tmp_path / "out" / "viewer.html").read_text()
    data = json.loads(re.search(r'id="viewer-data">(.*?)</script>', text).group(1))
    assert [system["name"] for system in data["systems"]] == ["good", "bad"]
    assert data["systems"][0]["rule"].startswith("As the FROC curve counts: hit: centre")
    # The numbers of the FROC curve itself.
    metrics = metrics_of(tmp_path / "out")["systems"]["good"]["metrics"]
    threshold = metrics["froc/malignant/threshold@1"]["value"]
    assert data["systems"][0]["thresholds"][1] == threshold
    scores = [score for image in data["images"] for k, score in enumerate(image["results"][0]["found"])
              if image["lesions"][k][4] == 1]  # fmt: skip
    found = sum(score is not None and score >= threshold for score in scores)
    assert found / len(scores) == pytest.approx(metrics["froc/malignant/sens@1"]["value"])
    assert "<b>" not in text.split("</style>")[1].split("<script>")[0]


def test_two_systems_with_all_files(folder, tmp_path, capsys):
    out = tmp_path / "out"
    arguments = ["--ground-truth", str(folder / "gt.json"), str(folder / "good.json"), str(folder / "bad.json")]
    assert run([*arguments, "--bootstrap", "60", "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    for part in ("preset default", "froc/malignant/sens@0.5", "bad - good", "patient/auc (DeLong)", "60 bootstrap"):
        assert part in printed
    names = {path.name for path in out.iterdir()}
    assert names == {
        "metrics.json", "metrics.csv", "table.tex", "paper.md", "paper.tex",
        "froc_benign.png", "froc_malignant.png", "froc_all.png",
        "roc_patient.png", "roc_exam.png", "roc_breast.png", "roc_image.png", "forest_1.png",
    }  # fmt: skip
    assert all((out / name).read_bytes()[:4] == b"\x89PNG" for name in names if name.endswith("png"))
    content = metrics_of(out)
    good = content["systems"]["good"]["metrics"]
    assert good["froc/malignant/mean_sens"]["low"] <= good["froc/malignant/mean_sens"]["value"]
    assert good["coco/malignant/AP50"]["value"] == pytest.approx(good["ap/malignant/AP@0.5"]["value"], abs=1e-12)
    assert good["coco/malignant/AP"]["value"] == pytest.approx(good["ap/malignant/AP"]["value"], abs=1e-12)
    pair = content["comparisons"][0]
    difference = pair["bootstrap"]["froc/malignant/mean_sens"]
    bad = content["systems"]["bad"]["metrics"]
    expected = bad["froc/malignant/mean_sens"]["value"] - good["froc/malignant/mean_sens"]["value"]
    assert difference["difference"] == pytest.approx(expected, abs=1e-12)
    assert set(pair["auc_delong"]) == {"patient", "exam", "breast", "image"}
    low, high = content["systems"]["good"]["patient_wilson"]["specificity"]
    assert low <= good["patient/specificity"]["value"] <= high
    assert 0 < good["patient/threshold@sens0.85"]["value"] < 1
    rows = list(csv.DictReader((out / "metrics.csv").open()))
    assert {row["system"] for row in rows} == {"good", "bad"}
    value = next(r["value"] for r in rows if r["system"] == "good" and r["metric"] == "coco/AP50")
    assert float(value) == good["coco/AP50"]["value"]
    table = (out / "table.tex").read_text()
    # A header, 3 x 8 FROC and 3 x 2 AP numbers, 3 of COCO, 7 of patients, the AUC of other levels.
    assert table.count("\\\\") == 1 + 24 + 6 + 3 + 7 + 3
    assert "\\toprule" in table


def test_a_system_against_itself_does_not_differ(folder, tmp_path):
    path = str(folder / "good.json")
    arguments = ["--ground-truth", str(folder / "gt.json"), path, path, "--names", "a", "b", "--bootstrap", "40"]
    assert run([*arguments, "--output", str(tmp_path), "--classes", "malignant"]) == 0
    pair = metrics_of(tmp_path)["comparisons"][0]
    assert {(d["difference"], d["p"]) for d in pair["bootstrap"].values() if d["p"] is not None} == {(0.0, 1.0)}
    assert {(t["difference"], t["p"]) for t in pair["auc_delong"].values()} == {(0.0, 1.0)}


def test_seed_repeats_and_zero_replicates_give_no_interval(folder, tmp_path):
    arguments = ["--ground-truth", str(folder / "gt.json"), str(folder / "good.json"), "--one-threshold"]
    for name, more in (("a", ["--bootstrap", "30"]), ("b", ["--bootstrap", "30"]), ("c", ["--bootstrap", "0"])):
        assert run([*arguments, *more, "--output", str(tmp_path / name)]) == 0
    first, second, none = (metrics_of(tmp_path / name) for name in "abc")
    assert first == second
    cell = none["systems"]["good"]["metrics"]["patient/auc"]
    assert cell["low"] is None
    assert cell["value"] == first["systems"]["good"]["metrics"]["patient/auc"]["value"]
    assert "no bootstrap" in none["options"][2]


def test_image_scores_alone_and_with_detections(folder, tmp_path, capsys):
    scores = ["--ground-truth", str(folder / "gt.json"), "--image-scores", str(folder / "scores.csv")]
    assert run([*scores, "--bootstrap", "20", "--aggregate", "mean", "--output", str(tmp_path / "a")]) == 0
    metrics = metrics_of(tmp_path / "a")["systems"]["scores"]["metrics"]
    assert metrics["image/auc"]["value"] == 1
    assert not any(name.startswith("froc") for name in metrics)
    assert run([str(folder / "good.json"), *scores, "--bootstrap", "0", "--output", str(tmp_path / "b")]) == 0
    both = metrics_of(tmp_path / "b")["systems"]["good"]["metrics"]
    assert both["image/auc"]["value"] == 1
    assert "froc/malignant/mean_sens" in both


def test_options_change_a_preset_and_its_name_says_so():
    plain = ["--ground-truth", "x"]
    assert preset_of(build_parser().parse_args([*plain, "--preset", "luna16"])).name == "luna16"
    args = [*plain, "--preset", "coco", "--hit", "iom", "--threshold", "0.4", "--rates", "1", "2"]
    changed = preset_of(build_parser().parse_args(args))
    assert (changed.name, str(changed.rule.hit), changed.thresholds) == ("coco*", "IoM >= 0.4", (0.4,))
    assert changed.rule.rates == (1, 2)
    assert changed.ap_rule == changed.rule
    assert changed.rule.matching == "greedy"


def test_another_kind_of_hit_needs_its_own_threshold():
    def changed(*arguments):
        return preset_of(build_parser().parse_args(["--ground-truth", "x", *arguments]))

    with pytest.raises(ValueError, match="--hit iou needs --threshold: that of preset dbtex, 100, is for center_max"):
        changed("--preset", "dbtex", "--hit", "iou")
    with pytest.raises(ValueError, match="--hit center_px needs --threshold"):
        changed("--hit", "center_px")
    assert str(changed("--preset", "dbtex", "--hit", "iou", "--threshold", "0.2").rule.hit) == "IoU >= 0.2"
    assert str(changed("--preset", "picai", "--hit", "iom").rule.hit) == "IoM >= 0.1"
    assert str(changed("--preset", "dbtex", "--hit", "center_in_box").rule.hit) == "centre in box"


def test_scores_of_another_scale_need_their_threshold(folder, tmp_path, capsys):
    percent = tmp_path / "percent.csv"
    rows = (folder / "scores.csv").read_text().splitlines()
    pairs = [row.split(",") for row in rows[1:]]
    percent.write_text("\n".join([rows[0], *(f"{image},{100 * float(p)}" for image, p in pairs)]))
    arguments = ["--ground-truth", str(folder / "gt.json"), "--bootstrap", "0", "--image-scores"]
    assert run([*arguments, str(percent), "--output", str(tmp_path / "percent")]) == 0
    warning = "percent.csv: scores up to 75 are taken for percentages and divided by 100; --score-threshold"
    assert warning in capsys.readouterr().err
    assert run([*arguments, str(percent), "--score-threshold", "50", "--output", str(tmp_path / "a")]) == 0
    assert run([*arguments, str(folder / "scores.csv"), "--output", str(tmp_path / "b")]) == 0
    scaled = metrics_of(tmp_path / "a")["systems"]["percent"]["metrics"]
    expected = metrics_of(tmp_path / "b")["systems"]["scores"]["metrics"]
    divided = metrics_of(tmp_path / "percent")["systems"]["percent"]["metrics"]
    for key in ("patient/specificity", "patient/sensitivity", "image/specificity"):
        assert scaled[key]["value"] == divided[key]["value"] == expected[key]["value"]
    # One score beyond 1 is a slip, not a percentage.
    slip = tmp_path / "slip.csv"
    slip.write_text("\n".join([*rows[:-1], "59,7.5"]))
    with pytest.raises(ValueError, match=r"slip\.csv: 1 score\(s\) are no probabilities, e\.g\. 7\.5"):
        run([*arguments, str(slip)])
    results = tmp_path / "logits.json"
    content = json.loads((folder / "good.json").read_text())
    results.write_text(json.dumps([{**entry, "score": entry["score"] - 3} for entry in content]))
    with pytest.raises(ValueError, match=r"logits\.json: \d+ score\(s\) are no probabilities"):
        run([str(results), *arguments[:-1]])
    with pytest.raises(ValueError, match="score threshold nan"):
        run([str(results), *arguments[:-1], "--score-threshold", "nan"])


def test_positive_classes_without_scores_are_counted(folder, tmp_path):
    arguments = ["--ground-truth", str(folder / "gt.json"), "--bootstrap", "0", "--output", str(tmp_path)]
    arguments += ["--positive-classes", "benign", "malignant", "--image-scores", str(folder / "scores.csv")]
    assert run(arguments) == 0
    assert metrics_of(tmp_path)["systems"]["scores"]["notes"] == {"images without a score of benign": 60}


def test_rate_zero_is_evaluated_and_plotted(folder, tmp_path):
    arguments = ["--ground-truth", str(folder / "gt.json"), str(folder / "good.json"), "--one-threshold"]
    assert run([*arguments, "--bootstrap", "3", "--rates", "0", "--output", str(tmp_path)]) == 0
    metrics = metrics_of(tmp_path)["systems"]["good"]["metrics"]
    assert 0 <= metrics["froc/malignant/sens@0"]["value"] < 1
    assert (tmp_path / "froc_malignant.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate"),
        (["good.json", "--names", "a", "b"], "1 different names are needed"),
        (["good.json", "bad.json", "--names", "a", "a"], "2 different names are needed"),
        (["good.json", "bad.json", "--image-scores", "scores.csv"], "2 results files but 1 image score files"),
        (["good.json", "--positive-classes", "cancer"], "positive class 'cancer' is not evaluated"),
        (["gt.json"], "image 0 has no file_name; is it a ground truth"),
        (["good.json", "--confidence", "95"], "confidence 95"),
        (["good.json", "--seed", "-1"], "bootstrap: seed -1 must be 0 or more"),
    ],
)
def test_bad_arguments_are_named_errors(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    with pytest.raises(ValueError, match=message):
        run(["--ground-truth", "gt.json", *arguments])


def test_the_tool_prints_one_line_for_bad_input(folder):
    command = [sys.executable, str(ROOT / "tools" / "evaluate.py"), "--ground-truth", str(folder / "gt.json")]
    result = subprocess.run(
        [*command, str(folder / "absent.json")], capture_output=True, text=True, cwd=ROOT, env=_environment()
    )
    assert result.returncode == 2
    assert result.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "absent.json" in result.stderr
    assert "Traceback" not in result.stderr


def test_results_are_written_whatever_the_terminal_can_show(folder, tmp_path):
    content = (folder / "gt.json").read_text().replace('"malignant"', '"b\u00f6sartig"')
    (tmp_path / "gt.json").write_text(content, encoding="utf-8")
    command = [sys.executable, str(ROOT / "tools" / "evaluate.py"), "--ground-truth", str(tmp_path / "gt.json")]
    command += [str(folder / "good.json"), "--bootstrap", "0", "--one-threshold", "--output", str(tmp_path / "out")]
    ascii_only = {**_environment(), "PYTHONIOENCODING": "ascii:strict"}
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=ascii_only)
    assert (result.returncode, result.stderr) == (0, "")
    assert "froc/b\\xf6sartig/sens@0.5" in result.stdout
    assert metrics_of(tmp_path / "out")["systems"]["good"]["metrics"]["froc/b\u00f6sartig/sens@0.5"]["value"] > 0


def test_classes_of_the_same_letters_have_plots_of_their_own(folder, tmp_path):
    content = (folder / "gt.json").read_text().replace('"malignant"', '"a b"').replace('"benign"', '"a_b"')
    (tmp_path / "gt.json").write_text(content)
    arguments = ["--ground-truth", str(tmp_path / "gt.json"), str(folder / "good.json"), "--bootstrap", "0"]
    assert run([*arguments, "--one-threshold", "--output", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out").glob("froc_*.png"))) == 3


def test_files_are_written_before_anything_is_printed(folder, tmp_path, monkeypatch):
    def broken(*_):
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", broken)
    arguments = ["--ground-truth", str(folder / "gt.json"), str(folder / "good.json"), "--one-threshold"]
    with pytest.raises(BrokenPipeError):
        run([*arguments, "--bootstrap", "0", "--output", str(tmp_path)])
    assert metrics_of(tmp_path)["systems"]["good"]["metrics"]["patient/auc"]["value"] > 0


def _environment():
    import os

    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_presets_are_listed_with_their_sources(capsys):
    with pytest.raises(SystemExit) as stop:
        build_parser().parse_args(["--list-presets"])
    assert stop.value.code == 0
    printed = capsys.readouterr().out
    assert "PI-CAI" in printed
    assert "preset nndetection" in printed


def test_the_tool_evaluates_predictions(tmp_path, capsys):
    truth = write_truth(tmp_path)
    predictions = write_predictions(tmp_path, ("p/1.dcm", (100, 90), SOURCE), ("p/2.dcm", (40, 30), PREPARED))
    arguments = ["--ground-truth", str(truth), "--bootstrap", "0", "--output", str(tmp_path / "out")]
    assert run([*arguments, str(predictions), "--image-scores", str(predictions)]) == 0
    content = json.loads((tmp_path / "out" / "metrics.json").read_text())
    metrics = content["systems"]["predictions"]["metrics"]
    # The hit has the lower score of the two boxes.
    assert metrics["froc/malignant/sens@0.25"]["value"] == 0
    assert metrics["froc/malignant/sens@0.5"]["value"] == 1
    capsys.readouterr()
    (tmp_path / "image_scores.csv").write_text("image_id,file,patient_id,laterality,view,malignant\n1,p/1.dcm,,,,0.5\n")
    with pytest.raises(SystemExit):
        run_tool(run, [*arguments, "--image-scores", str(tmp_path / "image_scores.csv")])
    assert "numbers of files that mammo-d2 predict gave" in capsys.readouterr().err


def test_cases_and_counts_are_written_on_request(folder, tmp_path):
    arguments = ["--ground-truth", str(folder / "gt.json"), str(folder / "good.json"), "--bootstrap", "0"]
    assert run([*arguments, "--one-threshold", "--cases", "csv", "--count-at", "0.5", "--output", str(tmp_path)]) == 0
    counts = list(csv.DictReader((tmp_path / "counts.csv").open()))
    assert {row["class"] for row in counts} == {"benign", "malignant", "all"}
    assert len(counts) == 3 * (1 + 7)
    shown = {row["rate"]: row["sensitivity"] for row in counts if row["class"] == "malignant"}
    metrics = metrics_of(tmp_path)["systems"]["good"]["metrics"]
    assert float(shown["0.5"]) == metrics["froc/malignant/sens@0.5"]["value"]
    lesions = list(csv.DictReader((tmp_path / "cases_1_lesions.csv").open()))
    assert len(lesions) == len(json.loads((folder / "gt.json").read_text())["annotations"])
    with pytest.raises(ValueError, match="name a folder with --output"):
        run([*arguments, "--cases", "json"])


def test_subgroups_of_the_command(folder, tmp_path, capsys):
    arguments = ["--ground-truth", str(folder / "gt.json"), str(folder / "good.json"), "--one-threshold"]
    arguments += ["--by", "laterality", "lesion.size_px:20", "--bootstrap", "60", "--output", str(tmp_path)]
    assert run(arguments) == 0
    rows = list(csv.DictReader((tmp_path / "subgroups.csv").open()))
    assert {(row["column"], row["subgroup"]) for row in rows} == {
        ("laterality", "L"), ("laterality", "R"), ("lesion.size_px", "< 20"), ("lesion.size_px", ">= 20")
    }  # fmt: skip
    assert "p (subgroups alike)" in capsys.readouterr().out
    with pytest.raises(ValueError, match="need --by"):
        run([*arguments[:4], "--by-metrics", "image/auc"])


def test_results_may_stand_behind_options_and_be_a_table(folder, tmp_path, capsys):
    table = tmp_path / "boxes.csv"
    names = {1: "benign", 2: "malignant"}
    rows = [
        ";".join(map(str, [entry["image_id"], names[entry["category_id"]], entry["score"], *entry["bbox"]]))
        for entry in json.loads((folder / "good.json").read_text())
    ]
    table.write_text("\n".join(["image;Befund;score;x;y;width;height", *rows]))
    options = ["--bootstrap", "0", "--columns", "Befund=class", "--ground-truth", str(folder / "gt.json")]
    argv = [str(folder / "good.json"), *options, str(table), "--output", str(tmp_path)]
    assert run(argv) == 0
    systems = metrics_of(tmp_path)["systems"]
    assert systems["boxes"]["metrics"] == systems["good"]["metrics"]
    assert "boxes read: image from image, class from Befund, score from score" in capsys.readouterr().out
    with pytest.raises(
        ValueError, match="--columns Befnd=class: no table has a column 'Befnd'; there are image, Befund"
    ):
        run([str(table), "--columns", "Befund=class", "Befnd=class", "--ground-truth", str(folder / "gt.json")])
    with pytest.raises(ValueError, match="--columns is for tables"):
        run([str(folder / "good.json"), "--columns", "a=class", "--ground-truth", str(folder / "gt.json")])
    with pytest.raises(ValueError, match="--columns 'Befund' must be NAME=FIELD"):
        run([str(table), "--columns", "Befund", "--ground-truth", str(folder / "gt.json")])
