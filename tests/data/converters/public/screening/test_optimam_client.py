import json

import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.screening.optimam_client import OptimamClient, read_client

MARK = {
    "ArchitecturalDistortion": None, "BenignClassification": None, "Conspicuity": "Subtle", "Dystrophic": None,
    "Height": "246", "LesionID": 6711, "LinkedNBSSLesionNumber": "1,2", "MarkID": 10241, "Mass": 1,
    "MassClassification": "spiculated", "WithCalcification": "WithCalcification", "Width": "427",
    "X1": "756", "X2": "1183", "Y1": "1487", "Y2": "1733",
}  # fmt: skip


def event(side, opinions, side_opinion=None, day="2011-05-13"):
    """An event with an opinion per lesion, as NBSS has it."""
    lesions = {number: {"Opinion": text, "DatePerformed": day} for number, text in opinions.items()}
    name = {"L": "left_opinion", "R": "right_opinion"}
    return {side: lesions, "left_opinion": None, "right_opinion": None, name[side]: side_opinion, "dateperformed": day}


def screening(left="RN", right="RN", day="2011-04-01"):
    return {"L": {"DateTaken": day, "Opinion": left}, "R": {"DateTaken": day, "Opinion": right}}


def client(**episodes):
    return OptimamClient(episodes, (), "")


def write_client(folder, nbss, studies, capitals=False, site="stge"):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, content in (("nbss", nbss), ("imagedb", {"ClientID": folder.name, "Site": site, "STUDIES": studies})):
        name = f"{kind.upper() if capitals else kind}_{folder.name}.json"
        (folder / name).write_text(json.dumps(content))
    return folder


def test_pathology_of_a_lesion():
    events = {"SURGERY": event("R", {"1": "H2", "2": None}), "BIOPSYWIDE": event("R", {"1": "B4", "2": "B5"})}
    # Surgery is the last word on a suspicion, and does not unprove a cancer that the biopsy took out.
    both = client(e=events)
    assert both.lesion_opinion("e", "R", ("1",)) == "benign"
    assert both.lesion_opinion("e", "R", ("2",)) == "malignant"
    assert both.lesion_opinion("e", "R", ("1", "2")) == "malignant"
    assert both.lesion_opinion("e", "L", ("1",)) == ""
    # Not linked: the two lesions do not agree.
    assert both.lesion_opinion("e", "R", ()) == ""
    one = client(e={"BIOPSYFINE": event("R", {"1": "C5"})})
    assert one.lesion_opinion("e", "R", ()) == "malignant"


@pytest.mark.parametrize(
    ("events", "opinion"),
    [
        ({"SCREENING": screening()}, "normal"),
        ({"SCREENING": screening(right="RM")}, "uncertain"),
        ({"SCREENING": screening(right="R5"), "ASSESSMENT": event("R", {}, "Normal")}, "normal"),
        ({"SCREENING": screening(right="RM"), "BIOPSYWIDE": event("R", {}, "Benign")}, "benign"),
        ({"SCREENING": screening(right="RM"), "SURGERY": event("R", {"1": "H5"}, "Malignant")}, "malignant"),
        ({"SCREENING": screening(), "LESION": {"R": {"1": {"LesionDescription": "Mass"}}}}, "uncertain"),
        ({"BIOPSYWIDE": event("R", {"1": "B3"})}, "uncertain"),
        ({"BIOPSYWIDE": event("R", {"1": "B1"})}, "uncertain"),
        ({"BIOPSYWIDE": event("L", {"1": "B5"}, "Malignant")}, ""),
        ({}, ""),
    ],
)
def test_what_an_episode_came_to_for_the_right_breast(events, opinion):
    assert client(e=events).breast_opinion("e", "R") == opinion


def test_a_cancer_in_a_later_episode():
    first = {"EpisodeOpenedDate": "2008-04-01", "SCREENING": screening()}
    cancer = {"EpisodeOpenedDate": "2011-04-01", "SURGERY": event("R", {"1": "H5"})}
    later = client(a=first, b=cancer)
    assert (later.has_later_cancer("a", "R"), later.has_later_cancer("a", "L")) == (True, False)
    assert not later.has_later_cancer("b", "R")
    interval = client(a=first, b={"EpisodeOpenedDate": "20100901", "EpisodeType": "CI"})
    assert interval.has_later_cancer("a", "R")
    assert interval.has_later_cancer("a", "L")


def test_files_of_a_client(tmp_path):
    studies = {
        "1.2.1": {
            "StudyDate": "20110401",
            "EpisodeID": "E1",
            "1.2.1.1": {"1.2.1.1.7": {"10241": MARK}, "1.2.1.1.8": None},
        },
        "1.2.2": {"StudyDate": "2011-05-13", "EpisodeID": "unknown", "1.2.2.1": {"1.2.2.1.1": ""}},
        "1.2.3": {"StudyDate": "19990101", "1.2.3.1": {"1.2.3.1.1": {}}},
    }
    nbss = {
        "ClientID": "optm1", "E1": {"SCREENING": screening(day="2011-04-01")},
        "E2": {"BIOPSYWIDE": event("R", {"1": "B5"}, day="2011-05-13")},
    }  # fmt: skip
    for capitals in (False, True):
        read = read_client(write_client(tmp_path / str(capitals) / "optm1", nbss, studies, capitals))
        assert (read.site, sorted(read.episodes)) == ("stge", ["E1", "E2"])
        # By its episode, by the day of an event, not at all.
        assert [(i.image, i.episode, len(i.marks)) for i in read.images] == [
            ("1.2.1.1.7", "E1", 1), ("1.2.1.1.8", "E1", 0), ("1.2.2.1.1", "E2", 0), ("1.2.3.1.1", "", 0),
        ]  # fmt: skip
    (mark,) = read.images[0].marks
    assert (mark.mark_id, mark.corners, mark.lesions) == ("10241", (756, 1487, 1183, 1733), ("1", "2"))
    assert (mark.conspicuity, mark.features, mark.described_benign) == ("Subtle", ("mass", "calcification"), False)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"imagedb_optm1\.json: no such file"):
        read_client(tmp_path / "optm1")
    without = {key: value for key, value in MARK.items() if key != "X2"}
    for mark in (without, {**MARK, "Y2": 10**400}):
        folder = write_client(tmp_path / "optm2", {}, {"1.2": {"1.3": {"1.4": {"5": mark}}}})
        with pytest.raises(ConverterError, match=r"image 1\.4: mark 5 has no X1, Y1, X2 and Y2"):
            read_client(folder)
    (folder / "nbss_optm2.json").write_text("[]")
    with pytest.raises(ConverterError, match=r"nbss_optm2\.json: must hold a JSON object"):
        read_client(folder)
