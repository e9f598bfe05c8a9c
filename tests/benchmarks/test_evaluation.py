"""The evaluation benchmark measures what it says, on data small enough for a test."""

import argparse
import json

import numpy as np
import pytest

from benchmarks import evaluation


def arguments(*words):
    parser = argparse.ArgumentParser()
    evaluation.add_arguments(parser)
    return parser.parse_args(words)


def test_data_are_as_described():
    data = evaluation.make_data(4000, 5)
    empty = 1 - len(np.unique(data.lesions.image)) / 4000
    assert empty == pytest.approx(0.7, abs=0.03)
    assert len(data.detections) == 20_000
    assert (data.detections.boxes[:, 2:] > data.detections.boxes[:, :2]).all()
    assert len(np.unique(data.images.patient)) == 1000


def test_backends_agree_and_the_bootstrap_is_bit_equal():
    data = evaluation.make_data(200, 5)
    args = arguments("--replicates", "10")
    results = {name: evaluation.MEASUREMENTS[name](data, args)() for name in ("froc", "bootstrap", "coco numpy")}
    assert results["bootstrap"] == "10 replicates, first bit-equal: True"
    assert results["coco numpy"] == evaluation.MEASUREMENTS["coco pycocotools"](data, args)()
    assert results["froc"].startswith("mean sensitivity 0.")


def test_loading_reads_the_files_written(tmp_path):
    data = evaluation.make_data(50, 4)
    evaluation.write_files(data, tmp_path)
    args = arguments("--folder", str(tmp_path))
    assert evaluation.MEASUREMENTS["load"](data, args)() == "200 detections"


def test_rows_of_a_run(tmp_path, capsys):
    path = tmp_path / "rows.json"
    evaluation.run(arguments("--images", "100", "--per-image", "3", "--measure", "froc", "--output", str(path)))
    row = json.loads(path.read_text())[0]
    assert (row["measurement"], row["images"], row["per_image"]) == ("froc", 100, 3)
    assert row["cpu_s"] > 0
    assert row["peak_mb"] >= row["loaded_mb"] > 10
    assert "us_per_image" in capsys.readouterr().out


def test_the_command_is_measured_whole(tmp_path):
    evaluation.write_files(evaluation.make_data(40, 3), tmp_path)
    row = evaluation._measure_command("command npz", 40, 3, 2, str(tmp_path))
    assert (row["measurement"], row["images"]) == ("command npz", 40)
    assert row["cpu_s"] > 0.1
    assert (tmp_path / "out" / "metrics.json").is_file()


def test_a_measurement_that_fails_is_a_named_error():
    with pytest.raises(RuntimeError, match=r"measurement 'load' of 10 x 2 failed: .*truth\.json"):
        evaluation._measure_apart("load", 10, 2, 1, "/nonexistent")
