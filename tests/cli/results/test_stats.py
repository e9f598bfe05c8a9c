"""``stats`` from files to files: each sub-command, and errors a person can read."""

import json

import numpy as np
import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.stats import run
from tests.evaluation.metrics.readers.published_studies import standalone, van_dyke
from tests.evaluation.statistics.study_files import write_study_files
from tests.evaluation.statistics.test_reader_tables import write_marks, write_ratings


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = write_study_files(tmp_path_factory.mktemp("test"))
    write_study_files(folder / "val", seed=1, start=100)
    return folder


def truth_of(folder):
    return ["--ground-truth", str(folder / "gt.json"), "--bootstrap", "30"]


def test_calibration_with_a_scaling(folder, tmp_path, capsys):
    out = tmp_path / "out"
    fit = ["--fit-scores", str(folder / "val" / "new.csv"), "--fit-ground-truth", str(folder / "val" / "gt.json")]
    arguments = ["calibration", str(folder / "new.csv"), *truth_of(folder)]
    assert run([*arguments, *fit, "--output", str(out), "--figures", "pdf", "svg"]) == 0
    assert "expected_over_observed" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert {"calibration.json", "scaling.json", "image_scores.json", "reliability.pdf", "reliability.svg"} <= names
    first = json.loads((out / "calibration.json").read_text())["scores"]
    # The file of scaled scores gives the scaled numbers, and so does the file of the scaling.
    assert run(["calibration", str(out / "image_scores.json"), *truth_of(folder), "--output", str(tmp_path / "b")]) == 0
    second = json.loads((tmp_path / "b" / "calibration.json").read_text())["scores"]
    assert second["as given"]["brier"]["value"] == pytest.approx(first["platt"]["brier"]["value"])
    again = [*arguments, "--scaling-file", str(out / "scaling.json"), "--output", str(tmp_path / "c")]
    assert run(again) == 0
    third = json.loads((tmp_path / "c" / "calibration.json").read_text())["scores"]
    assert third["platt"]["brier"] == first["platt"]["brier"]


def test_difference(folder, tmp_path, capsys):
    arguments = ["difference", str(folder / "old.json"), str(folder / "new.json"), *truth_of(folder)]
    more = ["--metrics", "auc", "froc@0.5", "--margin", "0.1", "--interval", "beta", "--permutations", "40"]
    assert run([*arguments, *more, "--thresholds", "0.5", "0.5", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    for part in ("new - old", "not inferior", "p (permutation)", "McNemar", "patients needed", "auc (DeLong)"):
        assert part in printed
    content = json.loads((tmp_path / "difference.json").read_text())
    assert set(content["metrics"]) == {"auc", "froc@0.5"}
    assert content["metrics"]["auc"]["noninferiority"]["margin"] == 0.1


def test_difference_of_image_scores(folder, capsys):
    scores = ["--image-scores", str(folder / "old.csv"), str(folder / "new.csv")]
    assert run(["difference", *scores, *truth_of(folder), "--names", "a", "b"]) == 0
    assert "b - a" in capsys.readouterr().out


def test_readers(tmp_path, capsys):
    ratings = write_ratings(van_dyke(), tmp_path / "r.csv")
    for method in ("or", "dbm"):
        assert run(["readers", str(ratings), "--method", method]) == 0
        assert "F(1, 15.26) = 4.456" in capsys.readouterr().out


def test_a_system_against_readers(tmp_path, capsys):
    marks, cases = tmp_path / "m.csv", tmp_path / "c.csv"
    write_marks(standalone(), marks, cases)
    out = tmp_path / "out"
    assert run(["readers", str(marks), "--cases", str(cases), "--system", "r0", "--output", str(out)]) == 0
    assert "t(1429.87) = 3.439" in capsys.readouterr().out
    content = json.loads((out / "readers.json").read_text())
    assert content["figure"] == "wafroc"
    assert np.isclose(content["standalone"]["random_cases"]["p"], 0.00059975)


def test_clinical(folder, tmp_path, capsys):
    arguments = ["clinical", str(folder / "old.csv"), str(folder / "new.csv"), *truth_of(folder), "--cuts", "0.2"]
    assert run([*arguments, "--prevalence", "0.006", "--output", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "cancers_per_1000@sens0.9" in printed
    assert "WARNING: Do not rest a claim on the NRI" in printed
    assert (tmp_path / "decision_curve.png").read_bytes()[:4] == b"\x89PNG"


def test_power(capsys):
    assert run(["power", "--auc", "0.85", "0.9", "--prevalence", "0.3", "--discordant", "0.2", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "234 positive patients" in printed
    assert "show a difference with power 0.8" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["power"], "nothing to plan"),
        (["difference", "{old}.json"], "1 results files; a difference takes two"),
        (["difference", "{old}.json", "{new}.json", "--metrics", "map"], "--metrics map: it is none of auc"),
        (["difference", "--image-scores", "{old}.csv", "{new}.csv", "--metrics", "froc@1"], "FROC metrics need boxes"),
        (["difference", "{old}.json", "{old}.json"], "2 different names are needed"),
        (["calibration", "{old}.csv", "--fit-scores", "{new}.csv"], "go together"),
        (["calibration", "{old}.csv", "--scaling-file", "{gt}.json"], "a scaling has kind, slope and intercept"),
        (["clinical", "{old}.csv", "{new}.csv", "{old}.csv"], "name one system, or two"),
        (["clinical", "{old}.csv", "--cuts"], "reclassification compares two systems"),
    ],
)
def test_errors(folder, capsys, arguments, message):
    filled = [a.format(old=folder / "old", new=folder / "new", gt=folder / "gt") for a in arguments]
    if arguments[0] != "power":
        filled += ["--ground-truth", str(folder / "gt.json"), "--bootstrap", "3"]
    with pytest.raises(SystemExit) as stop:
        run_tool(run, filled)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_errors_of_readers(tmp_path, capsys):
    ratings = str(write_ratings(van_dyke(), tmp_path / "r.csv"))
    for more, message in (
        (["--figure", "wafroc"], "--figure wafroc is of free-response marks"),
        (["--system", "nobody"], "no reader of that name; the readers are r0, r1"),
        (["--system", "r0"], "2 treatments and 4 readers"),
        (["--confidence", "95"], "--confidence 95 must lie"),
    ):
        with pytest.raises(SystemExit):
            run_tool(run, ["readers", ratings, *more])
        assert message in capsys.readouterr().err
