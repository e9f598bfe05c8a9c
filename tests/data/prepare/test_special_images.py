import json

import numpy as np
import pytest

from mammo_d2.cli.data import prepare as command
from mammo_d2.data.converters.converter import SourceImage
from mammo_d2.data.converters.folders.dicom_folder import DicomFolder
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareError, PrepareOptions
from mammo_d2.data.prepare.special_images import USUAL_KINDS, of_visits, refused_kinds
from tests.data.breast_images import half_ellipse
from tests.data.dicom_files import code, write_dicom
from tests.data.toy_source import ToySource, write_breasts

PIXELS = half_ellipse()[0].astype(np.uint16)
SPOT = [code("R-10242", "SRT", ViewModifierCodeSequence=[code("R-102D7", "SRT", "Spot compression")])]


def test_what_is_taken():
    assert refused_kinds((), ()) is None
    assert refused_kinds(("spot",), None) is None
    assert refused_kinds(("implant",), USUAL_KINDS) is None
    why = "spot image (spot compression views); --take spot takes such images"
    assert refused_kinds(("implant", "spot"), USUAL_KINDS) == why
    with pytest.raises(ValueError, match=r"kinds .* must be among implant"):
        PrepareOptions(kinds=("ultrasound",))
    with pytest.raises(ValueError, match="visits 'second' must be all, first or last"):
        PrepareOptions(visits="second")


def image(key, patient, exam, time=None):
    return SourceImage(None, key, key, patient_id=patient, exam_id=exam, exam_time=time)


def keys(images, visits):
    kept, left = of_visits(images, visits)
    assert sorted([i.key for i in kept] + [key for key, _ in left]) == sorted(i.key for i in images)
    return [i.key for i in kept]


def test_exams_of_a_patient_in_time():
    images = [
        image("a", "p1", "e2", "20200301"), image("b", "p1", "e1", "20180301"), image("c", "p1", "e3", "20200301"),
        image("d", "p2", "e4"), image("e", None, None), image("f", "p1", "e1"),
    ]  # fmt: skip
    assert keys(images, "all") == list("abcdef")
    # An exam's time may be known from one of its images. Exams of the same day belong together.
    assert keys(images, "first") == ["b", "d", "e", "f"]
    assert keys(images, "last") == ["a", "c", "d", "e"]
    with pytest.raises(PrepareError, match="patient 'p1' has 2 exams, and the time of 'e2' is unknown"):
        of_visits([image("a", "p1", "e1", "2018"), image("b", "p1", "e2")], "last")


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "dicom"
    files = {
        "a": {"StudyInstanceUID": "1.1", "StudyDate": "20180101"},
        "b": {"StudyInstanceUID": "1.2", "StudyDate": "20200101"},
        "implant": {"StudyInstanceUID": "1.2", "StudyDate": "20200101", "BreastImplantPresent": "YES"},
        "spot": {"StudyInstanceUID": "1.2", "StudyDate": "20200101", "ViewCodeSequence": SPOT},
        "slice": {"StudyInstanceUID": "1.2", "StudyDate": "20200101", "ImageType": ["DERIVED", "PRIMARY", "TOMO"]},
    }
    for number, (name, tags) in enumerate(files.items()):
        write_dicom(root / f"{name}.dcm", PIXELS + number, ImageLaterality="L", SOPInstanceUID=f"1.2.{number}", **tags)
    return root


def run(folder, *more):
    out = folder.parent / "out"
    usual = ["--workers", "0", "--quiet", "--check", "0", "--keep-ids", "--split", "1", "0", "0"]
    assert command.run(["dicom", "--source", str(folder), "--out", str(out), *usual, *more]) == 0
    images = json.loads((out / "annotations" / "train.json").read_text())["images"]
    kinds = {i["file_name"][:-4]: i["source"].get("kinds") for i in images}
    return kinds, (out / "errors.csv").read_text(), out


def test_dicom_files(folder):
    kinds, errors, out = run(folder)
    assert kinds == {"a": None, "b": None, "implant": ["implant"]}
    assert 'slice.dcm,"tomosynthesis image (slices' in errors
    assert "spot.dcm,Spot compression image" in errors
    # Dates order the exams and go no further.
    for path in out.rglob("*.json"):
        assert "20200101" not in path.read_text()
        assert "20180101" not in path.read_text()


def test_dicom_files_asked_for(folder):
    assert sorted(run(folder, "--take", "spot", "tomosynthesis")[0]) == ["a", "b", "slice", "spot"]
    assert sorted(run(folder, "--all-views", "--take")[0]) == ["a", "b", "spot"]
    assert sorted(run(folder, "--visits", "first")[0]) == ["a"]
    assert sorted(run(folder, "--visits", "last")[0]) == ["b", "implant"]


def test_a_volume_is_refused_with_the_way_out(tmp_path):
    write_dicom(tmp_path / "t" / "volume.dcm", np.stack([PIXELS, PIXELS]), NumberOfFrames=2)
    write_dicom(tmp_path / "t" / "image.dcm", PIXELS)
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False)
    result = prepare(DicomFolder(tmp_path / "t", keep_ids=True), tmp_path / "out", options)
    (error,) = result.errors
    assert "use the 2D or synthetic 2D image of the same view, or choose one frame (--frame)" in error.problem


class FilesOnly(ToySource):
    """Knows nothing of its files before they are read."""

    def read(self, image):
        pixels, meta = super().read(image)
        return pixels, meta if image.key == "a" else meta.__class__(**{**meta.to_dict(), "kinds": ("phantom",)})


def test_what_only_the_file_knows(tmp_path):
    write_breasts(tmp_path, ["a", "b"])
    options = PrepareOptions(fractions=(("train", 1.0),), progress=False, kinds=(), strict=True)
    result = prepare(FilesOnly(tmp_path, [("a", "p1", []), ("b", "p2", [])]), tmp_path / "out", options)
    assert (result.errors, result.counts["train"]["images"]) == ([], 1)
    assert [(what, why.split(" ")[0]) for what, why in result.skipped] == [("b", "phantom")]
    assert not (tmp_path / "out" / "images" / "b.png").exists()
    with pytest.raises(PrepareError, match="none of 1 images could be prepared; the first: phantom image"):
        prepare(FilesOnly(tmp_path, [("b", "p2", [])]), tmp_path / "other", options)
