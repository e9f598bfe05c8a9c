import argparse
import json

import numpy as np
import pytest

from mammo_d2.data.converters.public.screening.optimam import _PREFIX, Optimam
from mammo_d2.data.prepare.dataset import prepare
from mammo_d2.data.prepare.options import PrepareOptions
from mammo_d2.data.reading.image_meta import ReadOptions
from tests.data.breast_images import half_ellipse
from tests.data.converters.public.screening.test_optimam_client import MARK, event, screening, write_client
from tests.data.dicom_files import code, write_dicom

CORNERS = {"LinkedNBSSLesionNumber": "1", "X1": "90", "X2": "50", "Y1": "100", "Y2": "130"}
STUDIES = {
    "1.2.10": {  # screening in 2008, three years before the cancer
        "StudyDate": "20080401", "EpisodeID": "E1", "1.2.10.1": {"1.2.10.1.1": None, "1.2.10.1.2": None},
    },
    "1.2.20": {  # screening in 2011: the cancer, marked in one view; and the raw image
        "StudyDate": "20110401", "EpisodeID": "E2",
        "1.2.20.1": {
            "1.2.20.1.1": {"7": {**MARK, **CORNERS}},
            "1.2.20.1.2": None,
            "1.2.20.1.3": None,
            "1.2.20.1.4": None,
        },
    },
}  # fmt: skip
NBSS = {
    "ClientID": "optm1",
    "E1": {"EpisodeOpenedDate": "2008-03-01", "EpisodeType": "F", "SCREENING": screening(day="2008-04-01")},
    "E2": {
        "EpisodeOpenedDate": "2011-03-01", "EpisodeType": "R", "SCREENING": screening(right="RM", day="2011-04-01"),
        "LESION": {"R": {"1": {"LesionDescription": "Mass"}}}, "BIOPSYWIDE": event("R", {"1": "B5"}, "Malignant"),
        "SURGERY": event("R", {"1": "H5"}, "Malignant"),
    },
}  # fmt: skip
# Image -> side, view, further tags.
IMAGES = {
    "1.2.10.1.1": ("R", "CC", {}),
    "1.2.10.1.2": ("L", "CC", {}),
    "1.2.20.1.1": ("R", "CC", {}),
    "1.2.20.1.2": ("L", "MLO", {}),
    "1.2.20.1.3": ("R", "CC", {"PresentationIntentType": "FOR PROCESSING"}),
    "1.2.20.1.4": ("R", "CC", {"magnified": True}),
}
MAGNIFICATION = code("399163009", meaning="Magnification")
MAGNIFIED = [code("399162004", meaning="cranio-caudal", ViewModifierCodeSequence=[MAGNIFICATION])]


@pytest.fixture
def source(tmp_path):
    write_client(tmp_path / "data" / "optm1", NBSS, STUDIES)
    write_images(tmp_path, "optm1", STUDIES, IMAGES)
    return tmp_path


def write_images(root, name, studies, images):
    for study, content in studies.items():
        for series, entries in content.items():
            for image in entries if isinstance(entries, dict) else ():
                side, view, tags = images[image]
                pixels = half_ellipse(side="left" if side == "L" else "right")[0].astype(np.uint16) + len(images)
                tags = {key: value for key, value in tags.items() if key != "magnified"} | (
                    {"ViewCodeSequence": MAGNIFIED} if "magnified" in tags else {"ViewPosition": view}
                )
                path = root / "images" / name / study / f"{image}.dcm"
                write_dicom(path, pixels, ImageLaterality=side, SeriesInstanceUID=series, **tags)


def test_prepared(source, tmp_path):
    converter = Optimam(source)
    result = prepare(converter, tmp_path / "out", PrepareOptions(fractions=(("train", 1),), progress=False))
    assert result.errors == []
    data = json.loads((tmp_path / "out" / "annotations" / "train.json").read_text())
    images = {image["file_name"]: image for image in data["images"]}
    early_right, early_left, right, left = (
        images[f"optm1/{study}/{image}.png"]
        for study, image in (
            ("1.2.10", "1.2.10.1.1"), ("1.2.10", "1.2.10.1.2"), ("1.2.20", "1.2.20.1.1"), ("1.2.20", "1.2.20.1.2"),
        )
    )  # fmt: skip
    assert right["labels"] == {"benign": None, "malignant": 1}
    # Read as normal three years before a cancer in the same breast: it may be there already.
    assert early_right["labels"] == {"benign": None, "malignant": None}
    assert early_left["labels"] == left["labels"] == {"benign": 0, "malignant": 0}
    assert (right["patient_id"], right["exam_id"], right["laterality"], right["view"]) == ("optm1", "1.2.20", "R", "CC")
    assert (right["site"], right["episode"], right["episode_type"]) == ("stge", "E2", "R")
    (lesion,) = data["annotations"]
    # Its corners are in no order.
    assert (lesion["category_id"], lesion["bbox"], lesion["pathology"]) == (2, [50, 100, 40, 30], "malignant")
    assert (lesion["lesion_id"], lesion["finding"], lesion["conspicuity"]) == (
        "E2_R_1",
        ["mass", "calcification"],
        "Subtle",
    )
    assert dict(converter.skipped) == {
        "images/optm1/1.2.20/1.2.20.1.3.dcm": "FOR PROCESSING (raw) image",
        "images/optm1/1.2.20/1.2.20.1.4.dcm": "Magnification image",
    }


def test_choices(source):
    converter = Optimam(source, all_views=True, read_options=ReadOptions(for_processing=True))
    assert len(list(converter.images())) == 6
    assert converter.skipped == []


def images_of(root, mark, nbss, name="1.2.5.1.1"):
    studies = {"1.2.5": {"StudyDate": "20110401", "EpisodeID": "E2", "1.2.5.1": {name: {"1": mark}}}}
    write_client(root / "data" / "demd2", nbss, studies)
    write_images(root, "demd2", studies, {name: ("R", "CC", {})})
    converter = Optimam(root)
    return [image for image in converter.images() if image.patient_id == "demd2"], dict(converter.skipped)


def lesions(**opinions):
    numbers = {key[1:]: value for key, value in opinions.items()}
    return {"E2": {"EpisodeOpenedDate": "2011-03-01", "BIOPSYWIDE": event("R", numbers)}}


@pytest.mark.parametrize(
    ("linked", "nbss", "categories", "labels"),
    [
        ("1", lesions(_1="B5", _2="B2"), ["malignant"], (None, 1)),
        ("2", lesions(_1="B5", _2="B2"), ["benign"], (1, 1)),
        ("UNLINKED", lesions(_1="B5", _2="B2"), ["unknown"], (None, 1)),
        ("UNLINKED", lesions(_1="B2"), ["benign"], (1, 0)),
        (None, {}, ["unknown"], (None, None)),
        ("1", lesions(_1="B3"), ["unknown"], (None, None)),
    ],
)
def test_marks_and_the_pathology_of_their_lesions(source, linked, nbss, categories, labels):
    ((image,), _) = images_of(source, {**MARK, "LinkedNBSSLesionNumber": linked}, nbss)
    assert [a.category for a in image.annotations] == categories
    assert (image.labels["benign"], image.labels["malignant"]) == labels


def test_a_mark_described_as_benign(source):
    mark = {**MARK, "LinkedNBSSLesionNumber": "UNLINKED", "BenignClassification": "rod-like"}
    ((image,), _) = images_of(source, mark, {})
    assert (image.annotations[0].category, image.labels) == ("benign", {"benign": 1, "malignant": None})
    ((image,), _) = images_of(source, {**mark, "LinkedNBSSLesionNumber": "1"}, lesions(_1="B5"))
    assert image.annotations[0].category == "malignant"


def test_marks_that_are_known_to_be_wrong(source):
    name = _PREFIX + "21149576.1882.1552598184295.155.0"
    images, skipped = images_of(source, MARK, {}, name)
    assert images == []
    assert skipped[f"images/demd2/1.2.5/{name}.dcm"] == "its marks are known to be wrong"


def test_clients_without_images_or_episodes(source):
    write_client(source / "data" / "optm3", {}, {"1.2": {"1.3": {"1.4": None}}})
    (source / "data" / "optm4").mkdir()
    converter = Optimam(source)
    assert len(list(converter.images())) == 4
    skipped = dict(converter.skipped)
    assert skipped["data/optm3/nbss_optm3.json"] == "no episodes; the client's labels are unknown"
    assert skipped["images/optm3/1.2/1.4.dcm"] == "in IMAGEDB, but there is no such file"
    assert "imagedb_optm4.json: no such file" in skipped["data/optm4"]


def test_a_folder_of_something_else(tmp_path):
    with pytest.raises(FileNotFoundError, match="data: no such folder; give the one with data and images"):
        Optimam(tmp_path)


def test_arguments(source):
    parser = argparse.ArgumentParser()
    Optimam.add_arguments(parser)
    converter = Optimam.from_arguments(parser.parse_args(["--source", str(source), "--all-views", "--for-processing"]))
    assert (converter.parameters()["all_views"], converter.read_options.for_processing) == (True, True)
