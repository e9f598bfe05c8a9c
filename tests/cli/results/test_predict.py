"""``predict`` from files to results."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results import predict
from mammo_d2.cli.results.predict import run
from mammo_d2.core.identifiers import hashed_identifier
from mammo_d2.framework.weights import shipped_models
from mammo_d2.framework.weights.safetensors_files import write_safetensors
from tests.data.dicom_files import write_dicom
from tests.inference.tiny_model import CROP_FLIP_SCALE, LESION, brightest_cfg, write_mammogram


@pytest.fixture
def arguments(tmp_path):
    """Model, config and a folder of two good files; output in ``out``."""
    cfg = brightest_cfg(tmp_path, "INPUT.SIZE", "[160, 160]", "INPUT.PREPARATION", "auto")
    config = tmp_path / "config.yaml"
    config.write_text(cfg.dump())
    for name in ("a", "b"):
        write_mammogram(tmp_path / "in" / f"{name}.png")
    return [
        "--config-file", str(config), "--weights", cfg.MODEL.WEIGHTS, "--input", str(tmp_path / "in"),
        "--output", str(tmp_path / "out"), "--quiet",
    ]  # fmt: skip


def read_table(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_results_are_in_pixels_of_the_files(arguments, tmp_path, capsys):
    # The preparation recorded beside the weights is found without being named.
    (tmp_path / "brightest" / "preparation.json").write_text(json.dumps(CROP_FLIP_SCALE.to_dict()))
    assert run([*arguments, "--pictures"]) == 0
    assert "4 boxes on 2 images" in capsys.readouterr().out
    coco = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == [str(tmp_path / "in" / f"{n}.png") for n in "ab"]
    assert coco["images"][0]["preparation"]["flip"] is True
    expected = [LESION[0], LESION[1], LESION[2] - LESION[0], LESION[3] - LESION[1]]
    np.testing.assert_allclose(coco["annotations"][0]["bbox"], expected, atol=3)
    rows = read_table(tmp_path / "out" / "predictions.csv")
    assert [row["score"] for row in rows] == ["0.75", "0.25"] * 2
    assert float(rows[0]["x"]) == pytest.approx(coco["annotations"][0]["bbox"][0], abs=1e-3)
    pictures = sorted(path.name for path in (tmp_path / "out" / "pictures").iterdir())
    assert pictures == ["00001_a.png", "00002_b.png"]
    assert read_table(tmp_path / "out" / "errors.csv") == []


def test_threshold_leaves_out_boxes_but_not_images(arguments, tmp_path):
    assert run([*arguments, "--score-threshold", "0.5", "INPUT.PREPARATION", "none"]) == 0
    coco = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [annotation["score"] for annotation in coco["annotations"]] == [0.75, 0.75]
    run([*arguments, "--score-threshold", "0.9", "INPUT.PREPARATION", "none"])
    coco = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(coco["images"]) == 2
    assert coco["annotations"] == []
    assert coco["images"][0]["image_scores"] == {"malignant": 0.75}


def test_bad_files_are_listed_and_the_rest_is_predicted(arguments, tmp_path, capsys):
    (tmp_path / "in" / "aa.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert run([*arguments, "--batch-size", "3"]) == 3
    assert len(read_table(tmp_path / "out" / "predictions.csv")) == 4
    errors = read_table(tmp_path / "out" / "errors.csv")
    assert [(row["level"], row["file"]) for row in errors] == [("error", str(tmp_path / "in" / "aa.png"))]
    assert "aa.png" in errors[0]["problem"]
    assert "1 of 3 files were left out" in capsys.readouterr().err


def test_nothing_but_bad_files_is_a_failure(arguments, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "in" / f"{name}.png").write_bytes(b"")
    assert run(arguments) == 1
    assert len(read_table(tmp_path / "out" / "errors.csv")) == 2


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--strict"], "aa.png: empty file"),
        (["--weights", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--input", "nowhere"], "nowhere: no such file or folder"),
        (["INPUT.PREPARATON", "none"], "did you mean INPUT.PREPARATION"),
    ],
)
def test_errors_are_one_line(arguments, tmp_path, capsys, more, message):
    (tmp_path / "in" / "aa.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        run_tool(run, [*arguments, *more])
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ")
    assert message in last


def test_arguments_that_cannot_work_are_told_before_any_prediction(arguments, tmp_path, capsys):
    def error_of(*argv):
        with pytest.raises(SystemExit) as stop:
            run_tool(run, [*arguments, *argv])
        assert stop.value.code == 2
        return capsys.readouterr().err

    assert "--score-threshold must be in [0, 1], got 5.0" in error_of("--score-threshold", "5")
    (tmp_path / "file").write_text("")
    assert "--output" in error_of("--output", str(tmp_path / "file"))
    assert "cannot be made" in error_of("--output", str(tmp_path / "file" / "out"))
    # Overrides right after --input are taken for files.
    text = error_of("--input", str(tmp_path / "in"), "MODEL.DEVICE", "cpu")
    assert "MODEL.DEVICE: no such file or folder; write -- between --input and KEY VALUE overrides" in text


@pytest.mark.parametrize("more", [(), ("--keep-ids",)])
def test_identifiers_of_dicom_files_stay_in_the_house(arguments, tmp_path, more):
    pixels = np.random.default_rng(0).integers(500, 4000, (120, 200)).astype(np.uint16)
    write_dicom(tmp_path / "in" / "a.dcm", pixels, PatientID="Doe-Jane", StudyInstanceUID="1.2.345.678")
    assert run([*arguments, *more, "--id-salt", "s", "INPUT.PREPARATION", "none"]) == 0
    image = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"][0]
    identifiers = "Doe-Jane", "1.2.345.678"
    stated = identifiers if more else tuple(hashed_identifier(text, "s") for text in identifiers)
    assert (image["patient_id"], image["exam_id"]) == stated
    written = "".join(path.read_text() for path in (tmp_path / "out").iterdir())
    assert [text in written for text in identifiers] == [bool(more)] * 2


def test_identifiers_are_salted_and_stay_the_same(arguments, tmp_path, capsys):
    out = tmp_path / "out"

    def patient():
        assert run([*arguments, "INPUT.PREPARATION", "none"]) == 0
        return json.loads((out / "predictions.json").read_text())["images"][-1]["patient_id"]

    pixels = np.random.default_rng(0).integers(500, 4000, (120, 200)).astype(np.uint16)
    patient()
    assert not (out / "id_salt.txt").exists()  # PNGs know no identifiers
    write_dicom(tmp_path / "in" / "c.dcm", pixels, PatientID="1234567")
    first, salt = patient(), (out / "id_salt.txt").read_text().strip()
    # Found again by whoever has the salt, and by nobody who hashes all numbers of seven digits.
    assert first == hashed_identifier("1234567", salt) != hashed_identifier("1234567")
    assert (out / "id_salt.txt").stat().st_mode & 0o077 == 0
    assert patient() == first
    # That of a prepared data set.
    (out / "id_salt.txt").write_text("of the data set\n")
    assert patient() == hashed_identifier("1234567", "of the data set")
    (out / "id_salt.txt").write_text("\n")
    with pytest.raises(SystemExit):
        run_tool(run, [*arguments, "INPUT.PREPARATION", "none"])
    assert "id_salt.txt: empty; write the salt into it again" in capsys.readouterr().err


def test_an_interrupted_prediction_leaves_what_it_has(arguments, tmp_path, monkeypatch, capsys):
    def interrupted(*items, **options):
        yield next(iter(items[0]))
        raise KeyboardInterrupt

    tqdm = predict.tqdm
    monkeypatch.setattr(predict, "tqdm", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(arguments)
    monkeypatch.setattr(predict, "tqdm", tqdm)
    assert [row["file"] for row in read_table(tmp_path / "out" / "image_scores.csv")] == [
        str(tmp_path / "in" / "a.png")
    ]
    captured = capsys.readouterr()
    assert "has the results of 1 of 2 files, and --resume goes on" in captured.err
    assert run([*arguments, "--resume"]) == 0
    captured = capsys.readouterr()
    assert "1 files have a prediction" in captured.out
    assert "4 boxes on 2 images" in captured.out


def test_a_run_with_other_settings_is_not_resumed(arguments, tmp_path, capsys):
    assert run(arguments) == 0
    with pytest.raises(SystemExit) as stop:
        run_tool(run, [*arguments, "--resume", "--score-threshold", "0.5"])
    assert stop.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "predictions.jsonl: predicted with score_threshold 0.0, now 0.5: " in message
    assert run([*arguments, "--score-threshold", "0.5"]) == 0


def test_files_that_are_the_same_image_are_counted(arguments, tmp_path, capsys):
    pixels = np.random.default_rng(0).integers(500, 4000, (120, 200)).astype(np.uint16)
    for name in ("c", "d"):
        write_dicom(tmp_path / "in" / f"{name}.dcm", pixels, SOPInstanceUID="1.2.3.4")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "in" / "a.png")
    assert run([*arguments, "INPUT.PREPARATION", "none"]) == 0
    out = capsys.readouterr().out
    assert "boxes on 4 images" in out
    assert "1 files are further names (links) of others, which were predicted once" in out
    assert "1 files are the same image (SOP instance) as another one; see errors.csv" in out
    rows = [(row["file"].rsplit("/")[-1], row["problem"]) for row in read_table(tmp_path / "out" / "errors.csv")]
    folder = tmp_path / "in"
    assert ("link.png", f"another name of {folder / 'a.png'}; predicted once") in rows
    assert ("d.dcm", f"the same image (SOP instance) as {folder / 'c.dcm'}") in rows


def test_two_models_and_mirrored_images_are_fused(arguments, tmp_path, capsys):
    config, weights = arguments[1], arguments[3]
    more = ["--weights", weights, "--flips", "horizontal", "--outside-breast", "keep", "INPUT.PREPARATION", "none"]
    assert run([*arguments, *more]) == 0
    rows = read_table(tmp_path / "out" / "predictions.csv")
    # The inner box joins the outer one: one box of 0.75 and 0.25 a model and version.
    assert [row["score"] for row in rows] == ["0.5"] * 2
    assert float(rows[0]["x"]) == pytest.approx(LESION[0], abs=2)
    for wrong in (["--config-file", config, "--config-file", config], ["--scales", "9"]):
        with pytest.raises(SystemExit) as stop:
            run([*arguments, *wrong])
        assert stop.value.code == 2
    err = capsys.readouterr().err
    assert "3 --config-file but 1 --weights: give one, or one each" in err
    assert "must lie between 0.25 and 4" in err


@pytest.fixture
def shipped(arguments, tmp_path, monkeypatch):
    """The tiny model as the package's own; returns the folder of models."""
    config, weights = arguments[1], arguments[3]
    folder = tmp_path / "models" / "cbis_mass_detector"
    folder.mkdir(parents=True)
    write_safetensors(folder / "model.safetensors", torch.load(weights, weights_only=True)["model"])
    (folder / "config.yaml").write_text(Path(config).read_text())
    (folder / "preparation.json").write_text(json.dumps(CROP_FLIP_SCALE.to_dict()))
    monkeypatch.setattr(shipped_models, "models_folder", lambda: tmp_path / "models")
    return tmp_path / "models"


def test_without_a_model_the_packages_own_is_used_and_named(shipped, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["in", "INPUT.SIZE", "[160, 160]"]) == 0
    out = capsys.readouterr().out
    assert "model: mammo_d2://cbis_mass_detector, research software and no medical device" in out
    assert str(shipped / "cbis_mass_detector" / "README.md") in out
    coco = json.loads((tmp_path / "predictions" / "predictions.json").read_text())
    assert coco["images"][0]["preparation"]["flip"] is True
    expected = [LESION[0], LESION[1], LESION[2] - LESION[0], LESION[3] - LESION[1]]
    np.testing.assert_allclose(coco["annotations"][0]["bbox"], expected, atol=3)


def test_the_config_beside_the_weights_is_found(arguments, tmp_path):
    config, weights = Path(arguments[1]), Path(arguments[3])
    (weights.parent / "config.yaml").write_text(config.read_text())
    assert run(["--weights", str(weights), *arguments[4:]]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--weights", "mammo_d2://other", "in"], "no model mammo_d2://other; its models are: mammo_d2://cbis_mass"),
        (["--config-file", "config.yaml", "in"], "--config-file config.yaml needs the model's --weights"),
        (["--weights", "elsewhere.pth", "in"], "there is no config.yaml beside it; name the config"),
        (["INPUT.SIZE", "[160, 160]"], "name the images, or folders of them"),
    ],
)
def test_models_that_are_not_known(shipped, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path / "models")
    with pytest.raises(SystemExit) as end:
        run_tool(run, words)
    assert end.value.code == 2
    assert message in capsys.readouterr().err
