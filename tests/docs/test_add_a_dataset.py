"""docs/add_a_dataset.md, carried out: the converter of another package, from its entry point to a valid data set."""

import json
import re

import cv2
import numpy as np
import pytest

from mammo_d2.data.converters import converter_registry
from mammo_d2.data.converters.converter_registry import find_converters
from tests.data.breast_images import half_ellipse
from tests.docs.guide import read_guide, type_command

TABLE = """image,woman,side,view,verdict,left,top,right,bottom
a1.png,w01,L,CC,cancer,40,60,70,95
a2.png,w02,R,MLO,clear,,,,
a3.png,w03,L,CC,not read,,,,
a4.png,w04,L,CC,benign,20,30,50,50
a4.png,w04,L,CC,cancer,60,80,70,100
a5.png,w05,L,CC,clear,,,,
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The guide's package, as pip leaves it on the path, beside the archive; what it registers is forgotten."""
    guide = read_guide("add_a_dataset.md")
    package = tmp_path / "package"
    info = package / "clinic_archive-1.0.dist-info"
    info.mkdir(parents=True)
    guide.write_files(package)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: clinic-archive\nVersion: 1.0\n")
    group, entry = re.search(r'^\[project\.entry-points\."(.+)"\]\n(.+)$', guide.files["pyproject.toml"], re.M).groups()
    (info / "entry_points.txt").write_text(f"[{group}]\n{entry.replace(chr(34), '')}\n")
    monkeypatch.setattr(converter_registry, "_converters", dict(find_converters()))
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.chdir(tmp_path)
    scans = tmp_path / "archive" / "scans"
    scans.mkdir(parents=True)
    (scans.parent / "findings.csv").write_text(TABLE)
    pixels = half_ellipse()[0].astype(np.uint16)
    for number in (1, 2, 3, 4):  # a5 is in the table only
        assert cv2.imwrite(str(scans / f"a{number}.png"), pixels + number)
    return guide


def test_the_guide(installed, tmp_path, capsys):
    prepare, validate = installed.commands
    assert type_command([*prepare, "--workers", "1", "--quiet"]) == 0
    assert type_command(validate) == 0
    assert "0 errors, 0 warnings" in capsys.readouterr().out
    images, boxes = {}, {}
    for split in ("train", "test"):
        content = json.loads((tmp_path / "datasets" / "clinic" / "annotations" / f"{split}.json").read_text())
        for image in content["images"]:
            images[image["source"]["file"]] = image
            boxes[image["source"]["file"]] = [
                (annotation["category_id"], in_source_pixels(annotation["bbox"], image["transform"]))
                for annotation in content["annotations"]
                if annotation["image_id"] == image["id"]
            ]
    assert boxes == {
        "scans/a1.png": [(2, [40, 60, 30, 35])],
        "scans/a2.png": [],
        "scans/a3.png": [],
        "scans/a4.png": [(1, [20, 30, 30, 20]), (2, [60, 80, 10, 20])],
    }
    labels = {name: (image["labels"]["benign"], image["labels"]["malignant"]) for name, image in images.items()}
    assert labels == {
        "scans/a1.png": (0, 1),
        "scans/a2.png": (0, 0),
        "scans/a3.png": (None, None),
        "scans/a4.png": (1, 1),
    }
    assert images["scans/a2.png"]["patient_id"] == "w02"
    assert (images["scans/a2.png"]["laterality"], images["scans/a2.png"]["view"]) == ("R", "MLO")
    assert "a5.png" in (tmp_path / "datasets" / "clinic" / "errors.csv").read_text()


def in_source_pixels(box, transform):
    assert transform["scale"] == [1.0, 1.0]
    assert not transform["flip"]
    return [box[0] + transform["crop"][0], box[1] + transform["crop"][1], *box[2:]]


def test_a_wrong_row_is_named(installed, tmp_path, capsys):
    table = tmp_path / "archive" / "findings.csv"
    table.write_text(table.read_text().replace("clear", "fine", 1))
    assert type_command(installed.commands[0]) == 2
    assert "row 3: verdict 'fine' must be" in capsys.readouterr().err
