"""``report``: from a run's folder to the HTML file, and errors a person can read."""

import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.report import run
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
