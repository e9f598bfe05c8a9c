import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.data.prepare import run
from mammo_d2.core.identifiers import hashed_identifier
from mammo_d2.data.converters.folders.dicom_folder import DicomFolder, salt_of
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from tests.conftest import ROOT
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import write_dicom

PIXELS = half_ellipse()[0].astype(np.uint16)


def call(*argv):
    """Exit code of the command, run in this process."""
    with pytest.raises(SystemExit) as caught:
        run_tool(run, [str(a) for a in argv])
    return caught.value.code


@pytest.fixture
def dicoms(tmp_path):
    folder = tmp_path / "dicom"
    for number in range(4):
        write_dicom(
            folder / f"f{number}.dcm", PIXELS + number, PatientID=f"p{number}", ImageLaterality="L", ViewPosition="CC"
        )
    (tmp_path / "truth.csv").write_text(
        "file,category,x,y,width,height,malignant\nf0.dcm,malignant,60,100,40,20,1\nf1.dcm,,,,,,0\n"
        "f2.dcm,malignant,60,100,40,20,1\nf3.dcm,,,,,,0\n"
    )
    return folder


def prepare_dicoms(dicoms, *more):
    truth = dicoms.parent / "truth.csv"
    return call("dicom", "--source", dicoms, "--truth", truth, "--out", dicoms.parent / "out", "--workers", 1,
                "--split", 0.5, 0, 0.5, "--quiet", *more)  # fmt: skip


def test_dicom_prepare_and_validate(dicoms, capsys):
    out = dicoms.parent / "out"
    assert prepare_dicoms(dicoms, "--crop", "--max-side", 200, "--check", 4) == 0
    text = capsys.readouterr().out
    assert "train       2 images       2 patients       1 with lesions       1 lesions" in text
    assert "0 reused, 0 left out with an error, 0 skipped, 0 warnings" in text
    assert cv2.imread(str(out / "check.png")) is not None
    assert sorted(p.name for p in (out / "annotations").iterdir()) == ["test.json", "train.json"]
    assert call("validate", out, "--images", "full") == 0
    lines = capsys.readouterr().out.splitlines()
    # The four images are the same but for one grey level of 4,096.
    assert lines[-1] == "0 errors, 6 warnings"
    assert all("nearly the same image" in line for line in lines[-7:-1])
    assert call("validate", out, "--images", "full", "--exact-only") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "0 errors, 0 warnings"
    assert lines[0].split() == ["test", "train"]
    assert ["vendor", "other", "2", "2"] in [line.split() for line in lines]
    assert ["patients", "2", "2"] in [line.split() for line in lines]
    assert prepare_dicoms(dicoms, "--crop", "--max-side", 200) == 0
    assert "4 reused" in capsys.readouterr().out


def patients(out):
    return {
        image["patient_id"]
        for file in (out / "annotations").iterdir()
        for image in json.loads(file.read_text())["images"]
    }


def test_identifiers_are_salted_and_stay_the_same(dicoms, capsys):
    out = dicoms.parent / "out"
    unsalted = {hashed_identifier(f"p{number}") for number in range(4)}
    assert prepare_dicoms(dicoms) == 0
    salt = out / "id_salt.txt"
    first, text = patients(out), salt.read_text()
    assert len(first) == 4
    assert first == {hashed_identifier(f"p{number}", text.strip()) for number in range(4)}
    assert not first & unsalted
    assert salt.stat().st_mode & 0o077 == 0
    # The secret is nowhere else.
    for path in out.rglob("*.json"):
        assert text.strip() not in path.read_text()
    capsys.readouterr()
    assert prepare_dicoms(dicoms) == 0
    assert "4 reused" in capsys.readouterr().out
    assert (patients(out), salt.read_text()) == (first, text)
    # Another data set has another salt.
    assert salt_of(dicoms.parent / "other", make=False) != text.strip()
    assert not (dicoms.parent / "other").exists()
    salt.unlink()
    assert prepare_dicoms(dicoms) == 2
    assert "hashed with a salt that is not in" in capsys.readouterr().err
    assert prepare_dicoms(dicoms, "--id-salt", text.strip()) == 0
    assert patients(out) == first
    salt.write_text("\n")
    assert prepare_dicoms(dicoms) == 2
    assert "id_salt.txt: empty; write the salt into it again" in capsys.readouterr().err


def test_a_mistyped_source_leaves_no_salt(tmp_path):
    assert call("dicom", "--source", tmp_path / "none", "--out", tmp_path / "out") == 2
    assert not (tmp_path / "out").exists()


def test_a_data_set_without_salt_keeps_its_names(dicoms, caplog):
    out = dicoms.parent / "out"
    prepare(DicomFolder(dicoms), out, PrepareOptions(progress=False))
    assert prepare_dicoms(dicoms) == 0
    assert patients(out) == {hashed_identifier(f"p{number}") for number in range(4)}
    assert not (out / "id_salt.txt").exists()
    assert "identifiers were hashed without a salt" in caplog.text


def test_shards_and_merge(dicoms, capsys):
    out = dicoms.parent / "out"
    here = ("--workers", 0, "--check", 0)
    assert prepare_dicoms(dicoms, *here, "--id-salt", "pepper") == 0
    files = [*(out / "annotations").iterdir(), *(out / "images").iterdir(), out / "errors.csv"]
    whole = {path: path.read_bytes() for path in files}
    shutil.rmtree(out)
    assert prepare_dicoms(dicoms, *here, "--shard", "2/2") == 0
    salt = (out / "id_salt.txt").read_text()
    capsys.readouterr()
    assert call("merge", out) == 2
    assert "1 of 2 shards are missing (1/2); run prepare with --shard 1/2" in capsys.readouterr().err
    # Without --id-salt all shards in one folder use the same.
    assert prepare_dicoms(dicoms, *here, "--shard", "1/2") == 0
    text = capsys.readouterr().out
    assert f"{out}: prepared shard 1/2\n  1/2         2 images       2 patients" in text
    assert f"then: mammo-d2 prepare merge {out}" in text
    assert call("merge", out, "--check", 4) == 0
    assert "0 left out with an error, 0 skipped, 0 warnings; see errors.csv" in capsys.readouterr().out
    assert cv2.imread(str(out / "check.png")) is not None
    assert (out / "id_salt.txt").read_text() == salt
    for number in (1, 2):
        assert prepare_dicoms(dicoms, *here, "--id-salt", "pepper", "--shard", f"{number}/2") == 0
    assert call("merge", out) == 0
    assert {path: path.read_bytes() for path in whole} == whole
    assert prepare_dicoms(dicoms, *here, "--shard", "1/2") == 0
    capsys.readouterr()
    assert call("merge", out) == 2
    assert "give one --id-salt" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["3/2", "0/2", "x", "1"])
def test_a_shard_that_is_none(dicoms, capsys, text):
    assert prepare_dicoms(dicoms, "--shard", text, "--workers", 0) == 2
    assert "shard" in capsys.readouterr().err


def test_dry_run(dicoms, capsys):
    assert prepare_dicoms(dicoms, "--dry-run") == 0
    assert "dry run, nothing written" in capsys.readouterr().out
    assert not (dicoms.parent / "out").exists()


def test_validate_finds_what_is_wrong(dicoms, capsys):
    out = dicoms.parent / "out"
    assert prepare_dicoms(dicoms) == 0
    train = out / "annotations" / "train.json"
    data = json.loads(train.read_text())
    good = json.dumps(data)
    image = out / "images" / data["images"][0]["file_name"]
    content = image.read_bytes()
    capsys.readouterr()

    def problem(*arguments):
        code = call("validate", out, *arguments)
        return code, capsys.readouterr().out

    image.write_bytes(content[: len(content) // 2])
    code, text = problem("--images", "full")
    assert code == 1
    assert "truncated PNG" in text
    image.unlink()
    code, text = problem()
    assert code == 1
    assert f"file_name = '{image.name}': no such file under" in text
    image.write_bytes(content)
    data["annotations"][0]["id"] = 0
    train.write_text(json.dumps(data))
    code, text = problem()
    assert code == 1
    assert f"error: {train}: annotation 0.id = 0: pycocotools never matches annotation id 0" in text
    train.write_text(good)
    data = json.loads(good)
    data["images"][0]["patient_id"] = json.loads((out / "annotations" / "test.json").read_text())["images"][0][
        "patient_id"
    ]
    train.write_text(json.dumps(data))
    code, text = problem()
    assert code == 1
    assert "this patient is also in" in text
    data = json.loads(good)
    data["annotations"][0]["bbox"] = [-5, 100, 40, 20]
    train.write_text(json.dumps(data))
    assert problem()[0] == 0
    assert problem("--warnings-fail")[0] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["dicom", "--source", "none", "--out", "o"], "error: none: no such folder"),
        (["mini-mias", "--source", ".", "--out", "o"], "Info.txt: no such file"),
        (["dicom", "--source", ".", "--truth", "t.csv", "--out", "o"], "error: t.csv: no such file; the table belongs"),
        (["dicom", "--source", ".", "--out", "o"], "error: .: no images of the o data set found"),
        (["dicom", "--source", ".", "--out", "o", "--split", "1", "1", "1"], "must sum to 1"),
        (["dicom", "--source", ".", "--out", "o", "--voi-by-vendor", "ge"], "--voi-by-vendor 'ge' must be VENDOR=VOI"),
        (["phantom", "--out", "o", "--set", "rowz=4"], "unknown field 'rowz'"),
        (["phantom", "--out", "o", "--set", "rows"], "--set 'rows' must be FIELD=VALUE"),
        (["phantom", "--out", "o", "--set", "rows=!!python/object/apply:os.system [x]"], "the value is not plain YAML"),
        (["phantom", "--out", "o", "--set", "rows=[1"], "--set 'rows=[1': the value is not plain YAML"),
        (["phantom", "--out", "o", "--set", "rows=" + "[" * 5000], "the value is not plain YAML"),
        (["validate", "none.json"], "error: none.json: no such file or folder"),
        (["validate", "."], "error: .: no annotations/*.json in it"),
    ],
)
def test_bad_arguments_are_one_line_and_code_2(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MAMMO_D2_TRACEBACK", raising=False)
    assert call(*arguments) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.startswith("error: ")
    assert len(text.splitlines()) == 1


def test_a_set_with_nothing_readable(tmp_path, capsys):
    (tmp_path / "a.dcm").write_bytes(b"nothing of the kind " * 20)
    assert call("dicom", "--source", tmp_path, "--out", tmp_path / "o", "--workers", 1, "--quiet") == 2
    assert "none of 1 images could be prepared; the first: " in capsys.readouterr().err


def test_images_beyond_the_limit_are_left_out_and_the_option_allows_them(dicoms, monkeypatch, capsys):
    monkeypatch.setenv("MAMMO_D2_MAX_MEGAPIXELS", "0.01")
    assert prepare_dicoms(dicoms) == 2
    assert "f0.dcm: 400 x 300 = 0.12 million pixels, more than 0.01 million" in capsys.readouterr().err
    assert prepare_dicoms(dicoms, "--max-megapixels", 0.12) == 0


def test_phantom(tmp_path, capsys):
    out = tmp_path / "phantom"
    settings = ["--set", "rows=208", "cols=160", "share_malignant=1.0", "share_benign=0", "share_both=0",
                "share_calcification_malignant=0", "share_calcification_benign=0"]  # fmt: skip
    arguments = ["phantom", "--patients", 2, *settings, "--out", out, "--split", 0.5, 0, 0.5, "--workers", 1, "--quiet"]
    assert call(*arguments, "--dry-run") == 0
    assert "would make 2 patients" in capsys.readouterr().out
    assert call(*arguments, "--check", 0) == 0
    assert "train       4 images       1 patients       2 with lesions" in capsys.readouterr().out
    assert call("validate", out) == 0


def test_as_a_program(tmp_path):
    tool = ROOT / "tools" / "prepare_data.py"
    done = subprocess.run([sys.executable, tool, "--help"], capture_output=True, text=True, cwd=tmp_path,
                          env={"PYTHONPATH": str(ROOT), "PATH": ""}, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    for command in ("phantom", "dicom", "mini-mias", "validate"):
        assert command in done.stdout


def test_images_prepare_and_validate(tmp_path, capsys):
    folder = tmp_path / "files"
    folder.mkdir()
    for number in range(4):
        cv2.imwrite(str(folder / f"f{number}_R_MLO.png"), (PIXELS * 8 + number).astype(np.uint16))
    truth, out = tmp_path / "truth.csv", tmp_path / "out"
    truth.write_text("file,category,x,y,width,height,patient_id\nf0_R_MLO.png,malignant,60,100,40,20,a\n"
                     "f1_R_MLO.png,,,,,,a\nf2_R_MLO.png,malignant,60,100,40,20,b\nf3_R_MLO.png,,,,,,b\n")  # fmt: skip
    argv = [
        "images",
        "--source",
        folder,
        "--truth",
        truth,
        "--out",
        out,
        "--workers",
        1,
        "--quiet",
        "--split",
        0.5,
        0,
        0.5,
    ]
    assert call(*argv) == 0
    assert "test        2 images       1 patients       1 with lesions       1 lesions" in capsys.readouterr().out
    assert call("validate", out) == 0
    assert call(*argv, "--bits", 12, "--keep-files") == 2
    assert "--bits scales the pixels" in capsys.readouterr().err
