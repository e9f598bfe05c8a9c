"""``predict`` on images and names that nobody expects, and on a full disk: the right result or a clear error."""

import csv
import json
import os

import cv2
import numpy as np
import pytest

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.predict import run
from tests.inference.tiny_model import brightest_cfg, make_cfg, write_mammogram

resource = pytest.importorskip("resource")

NAMES = ["two words.png", 'it\'s "quoted", really.png', "<b onclick=alert(1)>&amp;.png", "mamo_ü_乳房.png"]


@pytest.fixture
def arguments(tmp_path):
    cfg = brightest_cfg(tmp_path, "INPUT.SIZE", "[60, 100]", "INPUT.PREPARATION", "none")
    return arguments_of(cfg, tmp_path)


def arguments_of(cfg, folder):
    (folder / "config.yaml").write_text(cfg.dump())
    (folder / "in").mkdir(exist_ok=True)
    return [
        "--config-file", str(folder / "config.yaml"), "--weights", cfg.MODEL.WEIGHTS, "--quiet",
        "--input", str(folder / "in"), "--output", str(folder / "out"),
    ]  # fmt: skip


def read_table(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_names_of_files_stay_as_they_are(arguments, tmp_path, capsys):
    for name in NAMES:
        write_mammogram(tmp_path / "in" / name)
    damaged = tmp_path / "in" / '<i>damaged,"1".png'
    damaged.write_bytes(b"x")
    assert run([*arguments, "--pictures"]) == 3
    files = [str(tmp_path / "in" / name) for name in sorted([*NAMES, damaged.name])]
    coco = json.loads((tmp_path / "out" / "predictions.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in coco["images"]] == [file for file in files if file != str(damaged)]
    rows = read_table(tmp_path / "out" / "image_scores.csv")
    assert [row["file"] for row in rows] == [image["file_name"] for image in coco["images"]]
    assert [row["file"] for row in read_table(tmp_path / "out" / "errors.csv")] == [str(damaged)]
    assert len(list((tmp_path / "out" / "pictures").iterdir())) == len(NAMES)
    assert str(damaged) in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="names of files are bytes")
def test_a_name_that_is_no_text(arguments, tmp_path):
    try:
        os.rename(write_mammogram(tmp_path / "a.png"), os.fsencode(tmp_path / "in") + b"/\xff.png")
    except OSError:
        pytest.skip("the file system takes UTF-8 only")
    assert run(arguments) == 0
    (row,) = read_table(tmp_path / "out" / "image_scores.csv")
    assert row["file"].endswith("\\udcff.png")
    assert run([*arguments, "--resume"]) == 0
    assert len((tmp_path / "out" / "predictions.jsonl").read_text().splitlines()) == 2


def test_images_without_a_breast(tmp_path):
    """By a real detector, with all that the command does by default."""
    arguments = arguments_of(make_cfg(tmp_path), tmp_path)
    images = {
        "1x1": np.full((1, 1), 200, np.uint8),
        "black": np.zeros((80, 60), np.uint16),
        "line": np.arange(300, dtype=np.uint8)[None],
        "rgb": np.random.default_rng(0).integers(0, 255, (80, 60, 3), np.uint8),
        "white": np.full((80, 60), 255, np.uint8),
    }
    for name, pixels in images.items():
        assert cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), pixels)
    assert run(arguments) in (0, 3)
    coco = json.loads((tmp_path / "out" / "predictions.json").read_text())
    problems = {
        row["file"]: row["problem"] for row in read_table(tmp_path / "out" / "errors.csv") if row["level"] == "error"
    }
    assert len(coco["images"]) + len(problems) == len(images)
    sizes = {image["id"]: (image["height"], image["width"]) for image in coco["images"]}
    for image in coco["images"]:
        name = os.path.basename(image["file_name"])[:-4]
        assert sizes[image["id"]] == images[name].shape[:2]
        assert all(0 <= score <= 1 for score in image["image_scores"].values())
    for entry in coco["annotations"]:
        (x, y, w, h), (height, width) = entry["bbox"], sizes[entry["image_id"]]
        assert 0 <= x <= x + w <= width + 1e-6
        assert 0 <= y <= y + h <= height + 1e-6
    for file, problem in problems.items():
        assert problem.startswith(file)
        assert ";" in problem  # and the remedy


def test_an_image_of_60_megapixels_may_be_refused_before_it_is_decoded(arguments, tmp_path):
    assert cv2.imwrite(str(tmp_path / "in" / "large.png"), np.zeros((7500, 8000), np.uint8))
    assert run([*arguments, "--max-megapixels", "50"]) == 1
    (row,) = read_table(tmp_path / "out" / "errors.csv")
    assert "60" in row["problem"]
    assert "--max-megapixels" in row["problem"]


def test_a_full_disk_is_named_and_the_run_goes_on_later(arguments, tmp_path, capsys):
    """A limit on the size of files stands for the disk: both end a write in its middle."""
    for number in range(6):
        write_mammogram(tmp_path / "in" / f"{number}.png", number)
    assert run(arguments) == 0
    whole = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = len(whole["predictions.jsonl"])
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, former[1]))
    try:
        with pytest.raises(SystemExit) as stop:
            run_tool(run, arguments)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert stop.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == f"error: {tmp_path / 'out' / 'predictions.jsonl'}: File too large"
    assert 0 < (tmp_path / "out" / "predictions.jsonl").stat().st_size <= size // 2
    assert run([*arguments, "--resume"]) == 0
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == whole
