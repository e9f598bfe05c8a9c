import pytest

from mammo_d2.data.converters.converter import ConverterError, circle_box, labels_from, read_table
from tests.data.toy_source import ToySource


def test_table_with_line_breaks_in_quotes_and_blanks(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('\ufeffname , value\na,"x/y.dcm\n"\n\nb, 2 \nc,\n', encoding="utf-8")
    assert read_table(path, ["name", "value"]) == [
        {"name": "a", "value": "x/y.dcm", "#": "2"},
        {"name": "b", "value": "2", "#": "5"},
        {"name": "c", "value": "", "#": "6"},
    ]


def test_table_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"t\.csv: no such file; the table belongs to the data set"):
        read_table(tmp_path / "t.csv", [])
    (tmp_path / "t.csv").write_text("name;value\n")
    with pytest.raises(ConverterError, match=r"column 'name' is missing; found name;value; .*delimiter"):
        read_table(tmp_path / "t.csv", ["name"])


def test_labels():
    assert labels_from(["benign"]) == {"benign": 1, "malignant": 0}
    assert labels_from([]) == {"benign": 0, "malignant": 0}
    assert labels_from(["malignant"], known=False) == {"benign": None, "malignant": 1}


def test_circle_by_hand():
    # Radius 10 around pixel (50, 60), whose centre is at (50.5, 60.5).
    assert circle_box(50, 60, 10) == (40.5, 50.5, 20, 20)


def test_missing_source_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder; give the folder of the toy data set"):
        ToySource(tmp_path / "none", [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a,b\n"' + "x" * 200000 + '",1\n', r"table\.csv: line 2: field larger than field limit"),
        ('a,b\n"x,1\ny,2\nz,3\n', r"table\.csv: line 4: unexpected end of data; is a quotation mark not closed"),
        ("a,b,a\n1,2,3\n", r"table\.csv: line 1: column 'a' is there twice"),
        ("a,b\n1,2\n1,2,3\n", r"table\.csv: line 3: 3 fields, but line 1 has 2"),
        # A row cut off would lose its lesion without a word.
        ("a,b\n1,2\n1\n", r"table\.csv: line 3: 1 fields, but line 1 has 2"),
        ("a,b\n", r"table\.csv: no row below the header"),
        ("a,b\n1,\0\n", r"table\.csv: holds zero bytes"),
        ("a,b\n1,2\n\n1,3\n", r"table\.csv, line 4: a '1' is there twice \(line 2\); remove one"),
    ],
)
def test_tables_that_would_be_misread(tmp_path, text, message):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ConverterError, match=message):
        read_table(path, ["a"], unique=("a",))


def test_rows_may_end_with_delimiters(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a;b\n1;2;;\n3;\n;\n")
    assert read_table(path, ["a"], delimiter=";") == [{"a": "1", "b": "2", "#": "2"}, {"a": "3", "b": "", "#": "3"}]
