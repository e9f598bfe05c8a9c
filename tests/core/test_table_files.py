"""Tables of every usual form: delimiters, encodings, workbooks; columns with names of their own."""

import datetime

import pytest

from mammo_d2.core.files import FileFormatError
from mammo_d2.core.table_files import ColumnNames, read_any_table


@pytest.mark.parametrize(
    ("text", "decimal_comma"),
    [
        ("name,side\n p1 ,L\n,,\n\np2,\n", False),
        ("name;side\np1;L\n;\n\np2;\n", True),
        ("name\tside\np1\tL\n\t\n\np2\t\n", True),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_of_every_kind(tmp_path, text, decimal_comma, encoding):
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(encoding))
    table = read_any_table(path)
    assert (table.header, table.rows) == (("name", "side"), [(2, ["p1", "L"]), (5, ["p2", ""])])
    assert table.by_column() == [(2, {"name": "p1", "side": "L"}), (5, {"name": "p2", "side": ""})]
    assert table.decimal_comma is decimal_comma
    assert table.number_text("0,5") == ("0.5" if decimal_comma else "0,5")


def test_workbook(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    day = datetime.datetime(2019, 5, 31)
    for row in ([" name ", "count", "day", None], ["p1", 4.0, day], [None] * 3, ["p2", 2.5], ["p3", None, None, None]):
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    table = read_any_table(tmp_path / "t.xlsx")
    assert table.header == ("name", "count", "day")
    assert table.rows == [(2, ["p1", "4", "2019-05-31"]), (4, ["p2", "2.5", ""]), (5, ["p3", "", ""])]
    assert not table.decimal_comma
    book.active.append(["p4", 1, None, "beyond"])
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(FileFormatError, match="line 6: 4 fields, but line 1 has 3"):
        read_any_table(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b\n1,2,3\n", "line 2: 3 fields, but line 1 has 2; write numbers with a decimal point"),
        (b'a,b\n1,"2\n', "is a quotation mark not closed"),
        (b"\xff\xfea", "begins as UTF-16 text, but is none"),
        (b"a,b\n\xff,1\n", "t.csv"),
    ],
)
def test_files_that_are_no_table(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(FileFormatError, match=message):
        read_any_table(tmp_path / "t.csv")
    with pytest.raises(FileNotFoundError, match=r"none\.csv: no such file; check the path"):
        read_any_table(tmp_path / "none.csv")


def test_empty_table_and_column_twice(tmp_path):
    (tmp_path / "t.csv").write_text("")
    assert (read_any_table(tmp_path / "t.csv").header, read_any_table(tmp_path / "t.csv").rows) == ((), [])
    (tmp_path / "t.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(FileFormatError, match="line 1: column 'a' is there twice"):
        read_any_table(tmp_path / "t.csv").by_column()


def test_columns_with_names_of_their_own():
    names = ColumnNames.parse(["Befund=class", "a=b=score"])
    assert dict(names) == {"Befund": "class", "a=b": "score"}
    assert names.places(["x", "Befund"], ["class", "image"]) == {"class": 1}
    with pytest.raises(FileFormatError, match=r"--columns a=b=score: 'score' must be one of image, class"):
        names.check_fields(["image", "class"])
    with pytest.raises(FileFormatError, match=r"--columns a=b=score: no table has a column 'a=b'; there are x, Befund"):
        names.check_found()
    names.places(["a=b"], ["score"])
    names.check_found()
    with pytest.raises(ValueError, match="--columns 'Befund' must be NAME=FIELD"):
        ColumnNames.parse(["Befund"])
    with pytest.raises(ValueError, match="column 'B' is both class and score"):
        ColumnNames.parse(["B=class", "B=score"])
