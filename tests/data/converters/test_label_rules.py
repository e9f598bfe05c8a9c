import json

import pytest
import yaml

from mammo_d2.cli.data import prepare as command
from mammo_d2.data.converters.label_rules import LabelRuleError, LabelRules, rule
from tests.data.converters.public.screening import test_vindr_mammo as vindr
from tests.data.converters.public.screening.test_rsna import TABLE

source = vindr.source  # the fixture

KNOWN = {
    "finding": {"birads": None, "pathology": ("MALIGNANT", "BENIGN")},
    "image": {"density": None},
    "breast": {"birads": ("", "0", "1", "2", "4", "4A"), "biopsy": ("0", "1")},
    "exam": {"birads": None},
}


def rules(tmp_path, text, built_in=None):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    return LabelRules.from_file(path, KNOWN, built_in)


def test_the_first_row_that_fits_decides(tmp_path):
    first = "breast:\n- {birads: [1, 2], biopsy: '1', is: benign}\n- {birads: 4, is: malignant}\n"
    rest = "- {birads: '4A', is: benign}\n- {birads: '*', is: normal}\n- {birads: null, is: unknown}\n"
    table = rules(tmp_path, first + rest)
    facts = [("2", "1"), ("2", "0"), ("4a", "0"), ("", "1")]
    verdicts = [table.verdict("breast", {"birads": b, "biopsy": p}, "here") for b, p in facts]
    assert verdicts == ["benign", "normal", "malignant", "unknown"]
    assert dict(table.counts) == {("breast", 0): 1, ("breast", 3): 1, ("breast", 1): 1, ("breast", 4): 1}


def test_facts_that_no_row_fits(tmp_path):
    text = "finding:\n- {pathology: malignant, birads: 5, is: malignant}\n"
    facts = {"birads": "5", "pathology": "BENIGN"}
    with pytest.raises(LabelRuleError, match=r"t\.csv, line 3: no row .*\(rules\.yaml\) for this finding: pathology "
                       "'BENIGN', birads '5'; .*otherwise: unknown"):  # fmt: skip
        rules(tmp_path, text).verdict("finding", facts, "t.csv, line 3")
    table = rules(tmp_path, text + "otherwise: unknown\n")
    assert table.verdict("finding", facts, "") == "unknown"
    assert table.counts["finding", -1] == 1


def labels(tables, findings=(), complete=True):
    """Of an image with the facts "is: verdict" at each level."""
    rows = {level: [rule(verdict, fact=("*",))] for level, verdict in tables.items()}
    facts = {level: {"fact": "x"} for level in ("image", "breast", "exam")}
    found = LabelRules(rows).image_labels(facts, findings, "here", complete)
    return found and (found["benign"], found["malignant"])


def test_labels_by_level():
    assert labels({}, ["malignant", "malignant"]) == (0, 1)
    assert labels({}, ["malignant"], complete=False) == (None, 1)
    # A finding of unknown kind may be either.
    assert labels({}, ["benign", "unknown"]) == (1, None)
    assert labels({}) == (0, 0)
    assert labels({"breast": "malignant"}, ["benign"]) == (None, 1)
    assert labels({"breast": "not malignant"}) == (None, 0)
    # Which images of a positive exam show it is unknown; of a normal one all are.
    assert labels({"exam": "malignant"}) == (None, None)
    assert labels({"exam": "benign"}) == (None, 0)
    assert labels({"exam": "normal"}) == (0, 0)
    # The image's own labels come first, the others fill in what it leaves open.
    assert labels({"image": "malignant", "breast": "benign", "exam": "normal"}) == (1, 1)
    assert labels({"image": "unknown", "breast": "not malignant", "exam": "normal"}) == (0, 0)
    assert labels({"breast": "left out"}) is None
    assert labels({"breast": "normal"}, ["left out"]) is None


def test_levels_that_a_file_does_not_name_stay(tmp_path):
    built_in = LabelRules({"finding": [rule("benign", birads=("2",))], "breast": [rule("normal", birads=("1",))]})
    table = rules(tmp_path, "breast:\n- {birads: 1, is: unknown}\n", built_in)
    assert table.to_dict() == {
        "origin": "rules.yaml",
        "finding": [{"birads": ["2"], "is": "benign", "count": 0}],
        "breast": [{"birads": ["1"], "is": "unknown", "count": 0}],
        "otherwise": "error",
    }


def test_the_printed_table_can_be_read_again(tmp_path):
    table = LabelRules({"breast": [rule("benign", birads=("2", "")), rule("malignant", biopsy=("1",), birads=("*",))]})
    table.verdict("breast", {"birads": "", "biopsy": "0"}, "")
    assert table.format() == (
        "breast:\n"
        '  - {birads: [2, ""], is: benign}            # 1\n'
        '  - {biopsy: 1, birads: "*", is: malignant}  # 0\n'
        "otherwise: error                             # 0"
    )
    assert rules(tmp_path, table.format()).tables == table.tables
    odd = LabelRules({"exam": [rule("normal", birads=("no", 'a"b', "N/A: x", "not done"))]})
    assert rules(tmp_path, odd.format()).tables == odd.tables


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n", "must be a mapping with any of finding, image, breast, exam"),
        ("otherwise: error\n", "must be a mapping with any of"),
        ("breasts: []\nbreast: []\n", "'breasts' must be one of finding"),
        ("breast:\n- {birads: 1, is: normal}\notherwise: normal\n", "otherwise 'normal' must be error or unknown"),
        ("breast: {birads: 1, is: normal}\n", "breast must be a list of rows"),
        ("breast: []\n", "breast must be a list of rows"),
        ("breast:\n- {is: normal}\n", "breast, row 1: must name a fact"),
        ("breast:\n- {birads: 1}\n", "breast, row 1: must name a fact"),
        ("breast:\n- {birads: 1, is: cancer}\n", "row 1: is 'cancer' must be one of normal, benign, malignant, not"),
        ("finding:\n- {birads: 1, is: normal}\n", "row 1: is 'normal' must be one of benign, malignant, unknown, left"),
        ("breast:\n- {pathology: 1, is: normal}\n", "'pathology' is none of the facts of this level: birads, biopsy"),
        ("breast:\n- {birads: 7, is: normal}\n", "birads '7' must be one of 0, 1, 2, 4, 4A, '' or"),
        ("breast:\n- {birads: [], is: normal}\n", "birads has no value"),
        ("breast:\n- {birads: no, is: normal}\n", "birads False must be a text .* in quotes"),
        ("breast:\n- {birads: [[1]], is: normal}\n", "must be a text or a number"),
        ("finding:\n- {pathology: MALIGNANTT, is: malignant}\n", "'MALIGNANTT' must be one of MALIGNANT, BENIGN"),
        ("breast: [{birads: 1\n", "not plain YAML"),
    ],
)  # fmt: skip
def test_wrong_files(tmp_path, text, message):
    with pytest.raises(LabelRuleError, match=rf"rules\.yaml: .*{message}"):
        rules(tmp_path, text)


def test_a_level_that_the_data_set_does_not_have(tmp_path):
    path = tmp_path / "rules.yaml"
    path.write_text("exam:\n- {birads: 1, is: normal}\n")
    with pytest.raises(LabelRuleError, match="exam: the data set says nothing of this; it has facts of breast"):
        LabelRules.from_file(path, {"breast": {}})


def run(source, name, *more):
    return command.run([name, "--source", str(source), "--out", str(source / "out"), "--workers", "0", "--quiet",
                        "--check", "0", *more])  # fmt: skip


def test_the_built_in_table_is_shown_before_use_and_recorded(source, capsys):
    assert run(source, "vindr-mammo") == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "label rules (built in), with the number of uses:\nfinding:\n  - {birads: [4, 5, 6], is: "
    )
    assert "  - {birads: [1, 2, 3], is: benign}     # 1\n" in printed
    assert "images malignant: 2 yes, 1 no, 0 unknown\n" in printed
    manifest = json.loads((source / "out" / "manifest.json").read_text())
    assert manifest["converter"]["labels"]["finding"][0] == {"birads": ["4", "5", "6"], "is": "malignant", "count": 1}


def test_rules_of_a_study(source, tmp_path, capsys):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump({
        "finding": [{"birads": 5, "is": "malignant"}, {"birads": 3, "is": "unknown"}],
        "breast": [{"birads": 5, "is": "malignant"}, {"birads": 2, "is": "left out"}],
    }))  # fmt: skip
    assert run(source, "vindr-mammo", "--labels", str(tmp_path / "study.yaml")) == 0
    printed = capsys.readouterr().out
    assert "label rules (study.yaml)" in printed
    train = json.loads((source / "out" / "annotations" / "train.json").read_text())
    # The unknown finding is no benign one, and kept in sight; the image of BI-RADS 2 is listed as left out.
    assert [a["bbox"] for a in train["annotations"]] == [[60.5, 100, 40, 20]]
    assert train["images"][0]["unassessed_boxes"] == [[10, 200, 30, 20]]
    assert train["images"][0]["unassessed_findings"] == [["Mass"]]
    assert not (source / "out" / "annotations" / "test.json").exists()
    errors = (source / "out" / "errors.csv").read_text()
    assert 'images/s2/i3.dicom,"left out by the label rules (study.yaml): birads 2, density B"' in errors


def test_a_value_that_the_study_forgot_ends_the_run(tmp_path):
    (tmp_path / "train.csv").write_text(TABLE)
    (tmp_path / "study.yaml").write_text("breast:\n- {cancer: 1, is: malignant}\n")
    with pytest.raises(LabelRuleError, match=r"train\.csv, line 3: no row .*study\.yaml.* for this breast: cancer '0'"):
        run(tmp_path, "rsna", "--labels", str(tmp_path / "study.yaml"), "--dry-run")
