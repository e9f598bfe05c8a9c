"""``browse``: a prepared data set as one file."""

import json
import re

import pytest

from mammo_d2.cli.data.browse import run
from tests.report.toy_run import make_dataset


def viewer_data(path):
    return json.loads(re.search(r'id="viewer-data">(.*?)</script>', path.read_text()).group(1))


def test_data_set(tmp_path, capsys):
    make_dataset(tmp_path, patients="<script>")
    output = tmp_path / "page.html"
    assert run([str(tmp_path / "toy"), "--output", str(output)]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    data = viewer_data(output)
    assert data["datasets"] == ["toy_test", "toy_train"]
    assert data["images"][0]["patient"] == "<script>3"
    assert output.read_text().count('data-type="image/jpeg">/9j/') == 4
    run([str(tmp_path / "toy"), "--output", str(output), "--splits", "test", "--classes", "malignant", "--images", "1"])
    assert viewer_data(output)["note"] == "This file has 1 of the 2 images; the counts are of all."


def test_as_the_network_gets_it(tmp_path):
    make_dataset(tmp_path)
    output = tmp_path / "page.html"
    arguments = [str(tmp_path / "toy"), "--output", str(output), "--splits", "test", "--variants", "1"]
    arguments += ["--config-file", "mammo_d2://quickstart/phantom_top_likelihood.yaml"]
    assert run([*arguments, "--opts", "INPUT.SIZE", "[64, 48]"]) == 0
    data = viewer_data(output)
    assert data["layout"] == "exam"
    assert [image["id"] for image in data["images"]] == ["3, as it is", "3, drawn 1", "4, as it is", "4, drawn 1"]
    with pytest.raises(SystemExit):
        run([str(tmp_path / "toy"), "--output", str(output), "--opts", "INPUT.SIZE", "[64, 48]"])
    with pytest.raises(SystemExit):
        run([str(tmp_path / "toy"), "--output", str(output), "--images", "0"])
