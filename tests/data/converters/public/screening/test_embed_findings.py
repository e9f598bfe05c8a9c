import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.public.screening.embed_findings import EmbedFinding, breasts_of


def row(number="2", **cells):
    usual = {"empi_anon": "11", "acc_anon": "22", "numfind": "1", "side": "L", "asses": "N", "path_severity": ""}
    return {**usual, "tissueden": "2.0", "bside": "", "desc": "MG Screening Bilateral", "#": number, **cells}


def test_a_row_without_side_or_of_both_breasts_holds_for_both():
    for side in ("", "B", "nan"):
        breasts = breasts_of([row(side=side)], "t.csv")
        assert sorted(breasts) == [("11", "22", "L"), ("11", "22", "R")]
        assert breasts["11", "22", "R"].facts == {"birads": "1", "pathology": "", "unsettled": "no"}
    assert list(breasts_of([row()], "t.csv")) == [("11", "22", "L")]


def test_pathology_belongs_to_the_side_of_the_specimen():
    breasts = breasts_of([row(side="B", asses="S", path_severity="0.0", bside="R")], "t.csv")
    assert breasts["11", "22", "R"].facts == {"birads": "4", "pathology": "0", "unsettled": "no"}
    assert breasts["11", "22", "L"].facts == {"birads": "4", "pathology": "", "unsettled": "yes"}


def test_specimens_of_one_finding_are_one_finding():
    rows = [
        row(asses="S", path_severity="4", numfind="1"),
        row(asses="S", path_severity="1", numfind="1.0"),
        row(asses="B", numfind="2"),
    ]
    breast = breasts_of(rows, "t.csv")["11", "22", "L"]
    assert breast.findings == (EmbedFinding("4", "1"), EmbedFinding("2", ""))
    assert breast.facts == {"birads": "4", "pathology": "1", "unsettled": "no"}
    assert breast.density == "2"


def test_the_worst_of_several_findings():
    rows = [row(asses=letter, numfind=str(n)) for n, letter in enumerate("NABX", start=1)]
    assert breasts_of(rows, "t.csv")["11", "22", "L"].facts == {"birads": "0", "pathology": "", "unsettled": "yes"}
    # A cancer of another organ is worse than a high-risk lesion of the breast, not than a cancer of it.
    rows = [row(path_severity=severity, numfind=severity) for severity in "264"]
    assert breasts_of(rows, "t.csv")["11", "22", "L"].facts["pathology"] == "6"


def test_male_breasts_have_no_density():
    assert breasts_of([row(tissueden="5.0")], "t.csv")["11", "22", "L"].density == ""


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"asses": "Q"}, "line 2: asses 'Q' must be one of A, N, B, P, S, M, K, X, or empty"),
        ({"side": "left"}, "line 2: side 'left' must be L, R or B"),
        ({"path_severity": "9"}, "line 2: path_severity '9' must be 0 to 6"),
    ],
)
def test_bad_rows(cells, message):
    with pytest.raises(ConverterError, match=message):
        breasts_of([row(**cells)], "t.csv")


@pytest.mark.parametrize(
    ("cells", "kinds"),
    [
        ({}, ()),
        ({"massshape": "nan", "calcfind": "nan"}, ()),
        ({"massshape": "X", "calcfind": ""}, ("mass",)),
        ({"massshape": "O", "calcfind": "I"}, ("calcification", "mass")),
        ({"massshape": "", "calcfind": "9"}, ("calcification",)),
        ({"massshape": "Q"}, ("architectural distortion",)),
        ({"massshape": "v"}, ("asymmetry",)),
        ({"massshape": "N"}, ("lymph node",)),
        ({"massshape": "?"}, ()),
    ],
)
def test_what_a_finding_is(cells, kinds):
    breast = breasts_of([row(asses="S", **cells)], "t.csv")["11", "22", "L"]
    assert breast.findings == (EmbedFinding("4", "", kinds),)
    assert breast.kinds == kinds


def test_boxes_have_a_kind_only_if_all_findings_of_the_breast_are_of_it():
    rows = [
        row(asses="S", massshape="O", numfind="1"),
        row(asses="S", calcfind="I", numfind="1"),  # another specimen of the same finding
        row(asses="N", numfind="2"),
    ]
    assert breasts_of(rows, "t.csv")["11", "22", "L"].kinds == ("calcification", "mass")
    rows.append(row(asses="B", massshape="O", numfind="3"))
    assert breasts_of(rows, "t.csv")["11", "22", "L"].kinds == ()
