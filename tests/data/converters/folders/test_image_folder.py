import json

import cv2
import numpy as np
import pytest

from mammo_d2.core.image_transform import ImageTransform
from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.folders.image_folder import ImageFolder
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.data.reading.image_meta import ReadOptions
from tests.data.breast_images import half_ellipse

# Breast of 12-bit values on black, 400 x 300.
PIXELS = (half_ellipse()[0] * 4).clip(0, 4095).astype(np.uint16)
TRUTH = (
    "file,category,x,y,width,height,malignant,patient_id,view\n"
    "Müller 1/0_L-CC.png,malignant,60,100,40,20,,A,\n"
    "Müller 1/b ä.jpg,,,,,,0,A,ML\n"
    "c.tif,,,,,,,B,\n"
)


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "files"
    (root / "Müller 1").mkdir(parents=True)
    colour = np.dstack([(PIXELS // 16).astype(np.uint8)] * 3)
    for name, pixels in (("Müller 1/0_L-CC.png", PIXELS), ("Müller 1/b ä.jpg", colour), ("c.tif", PIXELS // 2)):
        ok, data = cv2.imencode(name[-4:], pixels)
        assert ok
        (root / name).write_bytes(data.tobytes())
    (root / "notes.txt").write_text("not an image")
    (tmp_path / "truth.csv").write_text(TRUTH, encoding="utf-8")
    return root


def test_facts_come_from_truth_and_file_names(folder, tmp_path):
    converter = ImageFolder(folder, tmp_path / "truth.csv")
    first, second, third = converter.images()
    assert (first.key, first.patient_id, first.laterality, first.view) == ("Müller 1/0_L-CC", "A", "L", "CC")
    assert [(a.category, a.bbox) for a in first.annotations] == [("malignant", (60, 100, 40, 20))]
    # Boxes alone say what is there, not what is not.
    assert first.labels == {"benign": None, "malignant": 1}
    assert (second.view, second.labels, second.annotations) == ("ML", {"benign": None, "malignant": 0}, ())
    assert (third.patient_id, third.labels) == ("B", {"benign": None, "malignant": None})
    assert [what for what, _ in converter.skipped] == ["notes.txt"]


def test_prepared_like_any_other_source_and_predicted_alike(folder, tmp_path):
    options = PrepareOptions(image=ImageOptions(crop=True, max_side=200), fractions=(("train", 1.0),), progress=False)
    out = tmp_path / "out"
    result = prepare(ImageFolder(folder, tmp_path / "truth.csv", ReadOptions(bits=12)), out, options)
    assert result.counts["train"] == {"images": 3, "patients": 2, "positive": 1, "annotations": 1}
    assert result.issues == []
    data = json.loads((out / "annotations" / "train.json").read_text())
    image = next(i for i in data["images"] if i["file_name"] == "Müller 1/0_L-CC.png")
    (box,) = (a["bbox"] for a in data["annotations"])
    x, y, w, h = box
    back = ImageTransform.from_dict(image["transform"]).boxes_to_source([x, y, x + w, y + h])
    np.testing.assert_allclose(back, [60, 100, 100, 120], atol=1e-3)
    stored = cv2.imdecode(np.fromfile(out / "images" / image["file_name"], np.uint8), cv2.IMREAD_UNCHANGED)
    # 12 bits fill the range.
    assert (PIXELS.max(), stored.max()) == (4095, 65535)
    # The crop holds the lesion anyway, so that prediction, which knows none, makes the same pixels.
    predicted = Preparation.from_file(out / "manifest.json").apply(folder / "Müller 1/0_L-CC.png")
    np.testing.assert_array_equal(predicted.pixels, stored)


def test_dark_files_are_warned_about_and_too_few_bits_refused(folder, tmp_path):
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False)
    result = prepare(ImageFolder(folder, tmp_path / "truth.csv"), tmp_path / "out", options)
    assert 2**10 < PIXELS.max() // 2
    assert [(i.key, "--bits 12?" in i.problem) for i in result.issues] == [
        ("Müller 1/0_L-CC", True), ("c", True),
    ]  # fmt: skip
    result = prepare(ImageFolder(folder, None, ReadOptions(bits=9)), tmp_path / "out", options)
    assert [i.key for i in result.errors] == ["Müller 1/0_L-CC", "c"]
    assert "more than 9 bits hold" in result.errors[0].problem
    with pytest.raises(ValueError, match="bits 8 must be 9 to 16"):
        ReadOptions(bits=8)


def test_images_without_patient_are_warned_about(folder, tmp_path):
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False)
    result = prepare(ImageFolder(folder, None, ReadOptions(bits=12)), tmp_path / "out", options)
    (warning,) = result.issues
    assert warning.problem.startswith("3 of 3 images have no patient_id; each counts as a patient of its own")


def test_truth_that_lists_a_file_of_another_kind(folder, tmp_path):
    (tmp_path / "truth.csv").write_text("file\nnotes.txt\n")
    with pytest.raises(ConverterError, match=r"1 files cannot be used, e\.g\. 'notes\.txt': not one of \.png"):
        list(ImageFolder(folder, tmp_path / "truth.csv").images())


def test_exams_in_time_and_special_images(folder, tmp_path):
    (tmp_path / "truth.csv").write_text(
        "file,patient_id,exam_id,exam_date,kinds\nMüller 1/0_L-CC.png,A,e1,2018-05,\n"
        "Müller 1/b ä.jpg,A,e2,2020-01,implant\nc.tif,B,e3,,spot magnification\n",
        encoding="utf-8",
    )
    found = {image.key: image for image in ImageFolder(folder, tmp_path / "truth.csv").images()}
    assert found["c"].kinds == ("spot", "magnification")
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False, kinds=("implant",), visits="last")
    result = prepare(ImageFolder(folder, tmp_path / "truth.csv"), tmp_path / "out", options)
    text = result.files[0].read_text(encoding="utf-8")
    (record,) = json.loads(text)["images"]
    assert (record["exam_id"], record["source"]["kinds"]) == ("e2", ["implant"])
    assert "2020-01" not in text
