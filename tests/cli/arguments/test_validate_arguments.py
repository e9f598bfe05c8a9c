import json

import cv2
import pytest

from mammo_d2.cli.data.prepare import run
from mammo_d2.data.converters.public.film.cbis_ddsm import CbisDdsm
from mammo_d2.data.format.coco_builder import CocoBuilder
from tests.data.review.textured_breasts import textured_breast


@pytest.fixture
def dataset(tmp_path):
    """A data set of two splits: seeds 0 and 1 of patients a and b in train, 2 and a darker 0 of c and d in test."""
    (tmp_path / "images").mkdir()
    seeds = {"train": {"0.png": "a", "1.png": "b"}, "test": {"2.png": "c", "dark.png": "d"}}
    for split, images in seeds.items():
        builder = CocoBuilder()
        for name, patient in images.items():
            pixels = textured_breast(0) // 2 if name == "dark.png" else textured_breast(int(name[0]))
            cv2.imwrite(str(tmp_path / "images" / name), pixels)
            builder.add_image(name, 400, 300, patient_id=patient, view="CC")
        builder.write(tmp_path / "annotations" / f"{split}.json")
    return tmp_path


def validate(*arguments):
    return run(["validate", *(str(argument) for argument in arguments), "--quiet"])


def test_table_problems_and_pictures_are_written(dataset, capsys):
    out = dataset / "review"
    assert validate(dataset, "--images", "full", "--out", out) == 0
    text = capsys.readouterr().out
    assert "image 2.file_name = 'dark.png': nearly the same image as '0.png' of" in text
    assert "1 warnings" in text
    content = json.loads((out / "validate.json").read_text())
    assert [split["name"] for split in content["splits"]] == ["test", "train"]
    assert content["splits"][0]["views"] == {"CC": 2}
    assert content["near_duplicates"][0]["images"] == ["dark.png", "0.png"]
    assert [problem["code"] for problem in content["problems"]] == ["near-duplicate"]
    assert content["images_decoded"] == 4
    assert cv2.imread(str(out / "overview.png")) is not None
    assert cv2.imread(str(out / "near_duplicates.png")) is not None
    assert validate(dataset, "--images", "full", "--warnings-fail") == 1
    # A later run without pairs leaves no old picture.
    assert validate(dataset, "--images", "full", "--exact-only", "--warnings-fail", "--out", out) == 0
    assert not (out / "near_duplicates.png").exists()


def test_a_file_with_errors_is_not_counted(dataset, capsys):
    file = dataset / "annotations" / "train.json"
    content = json.loads(file.read_text())
    content["images"][0]["height"] = "high"
    file.write_text(json.dumps(content))
    assert validate(dataset) == 1
    assert capsys.readouterr().out.splitlines()[0].split() == ["test"]
    file.write_text("[]")
    with pytest.raises(ValueError, match="the top level must be an object"):
        validate(dataset)


def test_splits_of_two_data_sets_are_named_apart(dataset, capsys):
    file = dataset / "annotations" / "train.json"
    assert validate(file, file, "--images", "none") == 0
    name = f"{dataset.name}/train"
    assert capsys.readouterr().out.splitlines()[0].split() == [name, name]


@pytest.mark.shared_data
def test_the_31_patients_of_cbis_ddsm_in_both_parts(shared_data, tmp_path, capsys):
    rows = list(CbisDdsm(shared_data / "cbis_ddsm").rows())
    for split in ("train", "test"):
        builder = CocoBuilder()
        views = {(row["patient_id"], row["left or right breast"], row["image view"]): row
                 for row in rows if row["split"] == split}  # fmt: skip
        for (patient, side, view), row in views.items():
            density = row.get("breast_density") or row.get("breast density")
            builder.add_image(f"{patient}_{side}_{view}.png", 10, 10, patient_id=patient, laterality=side[0], view=view,
                              density=density)  # fmt: skip
        builder.write(tmp_path / f"{split}.json")
    assert validate(tmp_path / "train.json", tmp_path / "test.json", "--images", "none", "--limit", 100) == 1
    text = capsys.readouterr().out
    assert text.count("this patient is also in") == 31
    assert text.splitlines()[-1] == "31 errors, 0 warnings"
    assert ["patients", "1248", "349"] in [line.split() for line in text.splitlines()]
