"""``report``: from a run's folder to the HTML file, and errors a person can read."""

import json
import re

import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.report import run
from tests.report.toy_run import make_dataset, make_run


def test_report_is_written_beside_the_run(tmp_path, capsys):
    make_dataset(tmp_path / "data")
    make_run(tmp_path / "run", tmp_path / "data")
    assert run(["--run", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "run" / "report.html")
    assert "0.568" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_moved_data_sets_are_found_by_an_override(tmp_path):
    make_dataset(tmp_path / "moved")
    make_run(tmp_path / "run", tmp_path / "gone")
    output = tmp_path / "r.html"
    run(["--run", str(tmp_path / "run"), "--output", str(output), "DATASETS.ROOT", str(tmp_path / "moved")])
    assert "could not be loaded" not in output.read_text(encoding="utf-8")


def viewer_data(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="viewer-data">(.*?)</script>', text).group(1))


def test_runs_beside_each_other(tmp_path, capsys):
    make_dataset(tmp_path / "data")
    make_run(tmp_path / "a", tmp_path / "data")
    make_run(tmp_path / "b", tmp_path / "data")
    results = tmp_path / "b" / "inference" / "toy_test" / "coco_instances_results.json"
    results.write_text(results.read_text().replace("0.7", "0.5"))
    output = tmp_path / "r.html"
    assert run(["--run", str(tmp_path / "a"), "--beside", str(tmp_path / "b"), "--output", str(output)]) == 0
    data = viewer_data(output)
    assert ([system["name"] for system in data["systems"]], data["layout"]) == (["a", "b"], "compare")
    assert [result["scores"] for result in data["images"][0]["results"]] == [[0.7], [0.5]]
    with pytest.raises(ValueError, match="runs beside each other have one name: a, a"):
        run(["--run", str(tmp_path / "a"), "--beside", str(tmp_path / "a")])
    results.parent.rename(results.parent.with_name("toy_train"))
    with pytest.raises(ValueError, match="b: no evaluation on toy_test, which a has"):
        run(["--run", str(tmp_path / "a"), "--beside", str(tmp_path / "b")])


def test_several_runs_have_a_page_of_their_curves(tmp_path, capsys):
    for name in ("a", "b"):
        make_run(tmp_path / name, tmp_path / "gone")
    runs = ["--run", str(tmp_path / "a"), "--run", str(tmp_path / "b")]
    assert run(runs) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a" / "trainings.html")
    assert "mammo_d2: 2 trainings" in (tmp_path / "a" / "trainings.html").read_text(encoding="utf-8")
    with pytest.raises(SystemExit):
        run([*runs, "--beside", str(tmp_path / "c")])
    assert "several --run go with --output" in capsys.readouterr().err


def test_predictions_have_a_page(tmp_path, capsys):
    make_dataset(tmp_path / "data")
    file = str(tmp_path / "data" / "toy" / "images" / "3.png")
    image = {"id": 1, "file_name": file, "height": 80, "width": 60, "image_scores": {"malignant": 0.75}}
    box = {"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}
    content = {"images": [image], "annotations": [box], "categories": [{"id": 2, "name": "malignant"}]}
    (tmp_path / "predictions.json").write_text(json.dumps(content))
    assert run(["--predictions", str(tmp_path), "--side", "40"]) == 0
    data = viewer_data(tmp_path / "report.html")
    assert not data["judged"]
    (result,) = data["images"][0]["results"]
    assert (result["boxes"], result["scores"], result["image"]) == ([[1, 2, 3, 4]], [0.5], [0.75])
    with pytest.raises(SystemExit):
        run(["--predictions", str(tmp_path), "DATASETS.ROOT", "x"])


def test_folder_of_a_lesion_job_has_its_own_sections(tmp_path):
    config = make_run(tmp_path / "run", tmp_path / "gone")
    config.JOB, config.MODEL.META_ARCHITECTURE = "LesionContextJob", "LesionContextClassifier"
    (tmp_path / "run" / "config.yaml").write_text(config.dump())
    run(["--run", str(tmp_path / "run")])
    html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "<h2>Training of the patch network</h2>" in html
    assert "SOLVER.LR_SCHEDULER_NAME" in html


def test_folder_that_is_no_run_is_an_error_of_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_tool(run, ["--run", str(tmp_path)])
    assert stop.value.code == 2
    message = capsys.readouterr().err.splitlines()
    assert len(message) == 1
    assert message[0].startswith("error: ")
    assert "config.yaml: no such file; name the OUTPUT_DIR of a run" in message[0]
