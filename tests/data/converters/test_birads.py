import pytest

from mammo_d2.data.converters.birads import birads_breasts, birads_findings, parse_birads
from mammo_d2.data.converters.label_rules import LEFT_OUT, LabelRules


@pytest.mark.parametrize(
    ("text", "expected"),
    [("BI-RADS 4", (4, "4")), ("4a", (4, "4A")), ("BIRADS 0", (0, "0")), (" 6 ", (6, "6")), ("", None), ("  ", None)],
)
def test_parse(text, expected):
    assert parse_birads(text) == expected


@pytest.mark.parametrize("text", ["7", "high", "BI-RADS", "4d"])
def test_parse_errors(text):
    with pytest.raises(ValueError, match="is no BI-RADS assessment"):
        parse_birads(text)


def breast(grade, *arguments):
    rules = LabelRules({"breast": birads_breasts(*arguments)})
    return rules.image_labels({"breast": {"birads": grade}}, (), "here")


def test_breasts():
    assert breast("") == breast("0") == {"benign": None, "malignant": None}
    assert breast("1") == {"benign": 0, "malignant": 0}
    assert breast("2") == breast("3") == {"benign": 1, "malignant": 0}
    assert breast("4") == breast("4B") == breast("6") == {"benign": None, "malignant": 1}
    assert breast("4C", 5) == {"benign": 1, "malignant": 0}


def test_findings():
    rules = LabelRules({"finding": birads_findings()})
    grades = ("1", "2", "3", "4", "4A", "5", "6", "0", "")
    verdicts = [rules.verdict("finding", {"birads": grade}, "here") for grade in grades]
    assert verdicts == ["benign"] * 3 + ["malignant"] * 4 + ["unknown"] * 2
    rules = LabelRules({"finding": birads_findings(3, incomplete=LEFT_OUT)})
    verdicts = [rules.verdict("finding", {"birads": grade}, "here") for grade in ("2", "3", "0", "")]
    assert verdicts == ["benign", "malignant", "left out", "unknown"]
