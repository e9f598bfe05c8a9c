"""Several trainings on one page: what stands in its table, whose curves are drawn."""

import json
import re
from pathlib import Path

import pytest

from mammo_d2.report.html import Figure, Table, Text
from mammo_d2.report.run_report import ViewerOptions, write_run_report
from mammo_d2.report.trainings.compared_trainings import (
    LoggedRun,
    compared_training_blocks,
    run_names,
    write_training_page,
)
from tests.report.toy_run import make_dataset, make_run


@pytest.fixture
def runs(tmp_path):
    """Two finished runs of which b has evaluations in its log, and one that has not logged anything yet."""
    make_dataset(tmp_path / "data")
    made = [LoggedRun(make_run(tmp_path / name, tmp_path / "data"), tmp_path / name) for name in ("a", "b", "c")]
    made[1].cfg.TEST.BEST_METRIC, made[1].cfg.TEST.EVAL_PERIOD = "coco/AP50", 20
    with open(tmp_path / "b" / "metrics.json", "a") as file:
        for iteration, value in ((39, 0.25), (59, 0.5)):
            file.write(json.dumps({"iteration": iteration, "coco/AP50": value}) + "\n")
    (tmp_path / "c" / "metrics.json").unlink()
    return made


def test_table_says_where_each_run_stands(runs):
    figure, table, without = compared_training_blocks(runs)
    assert isinstance(figure, Figure)
    assert isinstance(table, Table)
    steps = runs[0].cfg.SOLVER.MAX_ITER
    assert [list(row) for row in table.rows] == [
        ["a", "Training", 40, steps, 3.0 / 40, ""],
        ["b", "Training", 60, steps, 3.0 / 40, "coco/AP50 0.500 after 60"],
    ]
    assert without == Text("Without a training log: c.")


def test_page_needs_no_data_set(runs, tmp_path):
    html = write_training_page(tmp_path / "p.html", [LoggedRun(run.cfg, run.folder) for run in runs]).read_text("utf-8")
    assert html.count("data:image/png;base64,") == 1
    assert "mammo_d2: 3 trainings" in html


def test_report_beside_another_run_has_the_curves_of_both(runs):
    a, b, _ = runs
    html = write_run_report(a.cfg, a.folder, shown=ViewerOptions(beside=[(b.cfg, b.folder)])).read_text("utf-8")
    section = html.split("<h2>Trainings side by side</h2>")[1].split("</section>")[0]
    assert re.findall(r'<th scope="row">(\w)</th>', section) == ["a", "b"]
    assert "Trainings side by side" not in write_run_report(a.cfg, a.folder).read_text("utf-8")


def test_runs_are_named_by_what_tells_them_apart():
    assert run_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    folders = [Path("/x/one/run"), Path("/x/two/run"), Path("/y/other")]
    assert run_names(folders) == ["one/run", "two/run", "y/other"]
    with pytest.raises(ValueError, match="/x/a: this run is named twice"):
        run_names([Path("/x/a"), Path("/x/b"), Path("/x/../x/a")])
