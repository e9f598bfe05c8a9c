import pytest

from mammo_d2.data.converters.birads import birads_category, birads_labels, parse_birads


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


def test_labels_and_categories():
    assert birads_labels(None) == birads_labels(0) == {"benign": None, "malignant": None}
    assert birads_labels(1) == {"benign": 0, "malignant": 0}
    assert birads_labels(3) == {"benign": 1, "malignant": 0}
    assert birads_labels(4) == {"benign": None, "malignant": 1}
    assert birads_labels(4, malignant_from=5) == {"benign": 1, "malignant": 0}
    assert [birads_category(g) for g in (2, 3, 4, 5)] == ["benign", "benign", "malignant", "malignant"]
    with pytest.raises(ValueError, match="BI-RADS 0 is an incomplete assessment"):
        birads_category(0)
