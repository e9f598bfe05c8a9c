"""Truth tables whose labels follow from rules."""

import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.folders.image_folder import ImageFolder
from mammo_d2.data.converters.label_rules import LabelRuleError

TABLE = (
    "file,x,y,width,height,histology,birads,exam_birads,patient_id,exam_id,laterality\n"
    "a.png,10,20,30,40,IDC,5,5,p1,e1,L\n"
    "a.png,50,60,10,10,fibroadenoma,2,,p1,e1,L\n"
    "b.png,,,,,,,5,p1,e1,R\n"
    "c.png,10,20,30,40,,3,2,p2,e2,L\n"
    "d.png,,,,,,,1,p2,e3,R\n"
)
RULES = """
finding:
  - {histology: [IDC, ILC, DCIS], is: malignant}
  - {histology: fibroadenoma, is: benign}
  - {histology: "", birads: 3, is: unknown}
exam:
  - {exam_birads: [4, 5], is: malignant}
  - {exam_birads: 1, is: normal}
  - {exam_birads: 2, is: benign}
"""


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "files"
    root.mkdir()
    for name in "abcd":
        (root / f"{name}.png").touch()
    return root


def converter(folder, table=TABLE, rules=RULES):
    (folder.parent / "truth.csv").write_text(table)
    (folder.parent / "rules.yaml").write_text(rules)
    return ImageFolder(folder, folder.parent / "truth.csv", labels=folder.parent / "rules.yaml")


def listed(folder, table=TABLE, rules=RULES):
    return {image.key: image for image in converter(folder, table, rules).images()}


def test_findings_and_exams(folder):
    found = listed(folder)
    assert [(a.category, a.bbox[0]) for a in found["a"].annotations] == [("malignant", 10), ("benign", 50)]
    assert [a.category for a in found["c"].annotations] == ["unknown"]
    # A positive exam does not say in which image; a benign one has no cancer in any; a normal one nothing.
    assert found["b"].labels == {"benign": None, "malignant": None}
    assert found["c"].labels == {"benign": None, "malignant": 0}
    assert found["d"].labels == {"benign": 0, "malignant": 0}
    assert {key: image.birads for key, image in found.items()} == dict.fromkeys("abcd")


def test_the_rules_are_counted(folder):
    rules = converter(folder).rules
    assert dict(rules.counts) == {("finding", 0): 1, ("finding", 1): 1, ("finding", 2): 1,
                                  ("exam", 0): 2, ("exam", 1): 1, ("exam", 2): 1}  # fmt: skip
    assert converter(folder).parameters()["labels"]["origin"] == "rules.yaml"


def test_images_that_the_rules_leave_out(folder):
    made = converter(folder, rules=RULES.replace("birads: 3, is: unknown", "birads: 3, is: left out"))
    assert [image.key for image in made.images()] == ["a", "b", "d"]
    assert made.skipped == [("c.png", "left out by the label rules (rules.yaml)")]


def test_labels_of_images_follow_from_findings_alone_where_there_is_no_other_table(folder):
    table = (
        "file,x,y,width,height,histology,birads\na.png,10,20,30,40,IDC,5\na.png,50,60,10,10,fibroadenoma,2\n"
        "c.png,10,20,30,40,,3\nd.png,,,,,,\n"
    )
    found = listed(folder, table, RULES.split("exam:")[0])
    assert found["a"].labels == {"benign": 1, "malignant": 1}
    assert found["c"].labels == {"benign": None, "malignant": None}
    # A list of boxes: no box, no finding, as without rules.
    assert found["d"].labels is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("IDC", "LCIS", r"line 2: no row of the label rules \(rules\.yaml\) for this finding: histology 'LCIS'"),
        ("b.png,,,,,,,5,", "b.png,,,,,,,4,", "exam_birads of 'b.png' is '4', but '5' of 'a.png' of the same exam"),
        ("2,,p1", "2,4,p1", "line 3: exam_birads '4', but '5' in another row of the file"),
        ("histology", "pathology", "unknown column 'pathology'"),
        (",histology,", ",", "fields, but line 1 has 10"),
        ("file,x", "file,malignant,x", "fields, but"),
    ],
)
def test_tables_that_do_not_fit(folder, old, new, message):
    with pytest.raises((ConverterError, LabelRuleError), match=message):
        converter(folder, TABLE.replace(old, new, 1))


def test_a_column_that_the_rules_need(folder):
    with pytest.raises(ConverterError, match="column 'grade' is missing, at which the label rules look"):
        converter(folder, rules="finding:\n- {grade: 1, is: benign}\n", table="file\na.png\n")


def test_labels_come_from_columns_or_from_rules(folder):
    table = "file,malignant,exam_birads\na.png,1,5\n"
    with pytest.raises(ConverterError, match=r"it has labels .* drop the one or the other"):
        converter(folder, table, "exam:\n- {exam_birads: 5, is: malignant}\n")


def test_rules_need_a_table(folder):
    (folder.parent / "rules.yaml").write_text(RULES)
    with pytest.raises(ConverterError, match="no truth: label rules need a truth table; give --truth"):
        ImageFolder(folder, labels=folder.parent / "rules.yaml")
