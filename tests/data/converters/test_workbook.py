import pytest

from mammo_d2.data.converters.converter import ConverterError
from mammo_d2.data.converters.workbook import read_cells, read_table_file

openpyxl = pytest.importorskip("openpyxl")


def write(path, **sheets):
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_cells_and_sheets(tmp_path):
    path = write(tmp_path / "a.xlsx", first=[["x"]], second=[[" a ", None, 4.0, 2.5, 7]])
    assert read_cells(path) == [["x"]]
    assert read_cells(path, "Second") == [["a", "", "4", "2.5", "7"]]
    # A single sheet may have any name.
    assert read_cells(write(tmp_path / "b.xlsx", only=[["y"]]), "all") == [["y"]]
    with pytest.raises(ConverterError, match=r"no sheet 'third', only first, second"):
        read_cells(path, "third")


def test_rows(tmp_path):
    path = write(tmp_path / "a.xlsx", all=[["name", "side", None], ["p1", "L"], [None, None], ["p2", None]])
    expected = [{"name": "p1", "side": "L", "#": "2"}, {"name": "p2", "side": "", "#": "4"}]
    assert read_table_file(path, ("name",)) == expected
    (tmp_path / "a.csv").write_text("name,side\np1,L\n")
    assert read_table_file(tmp_path / "a.csv", ("name",)) == expected[:1]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([["side"], ["L"]], "column 'name' is missing"),
        ([["name", "name"], ["p1", "p2"]], "column 'name' is there twice"),
        ([["name"], ["p1", "p2"]], "line 2: a cell beyond the last column"),
        ([["name"]], "no row below the header"),
        ([["name"], ["p1"], ["p1"]], "line 3: name 'p1' is there twice"),
    ],
)
def test_tables_that_are_none(tmp_path, rows, message):
    with pytest.raises(ConverterError, match=message):
        read_table_file(write(tmp_path / "a.xlsx", all=rows), ("name",), unique=("name",))


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.xlsx").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ConverterError, match=r"a\.xlsx: not an Excel workbook"):
        read_cells(tmp_path / "a.xlsx")
    with pytest.raises(FileNotFoundError, match="no such file; the table belongs to the data set"):
        read_cells(tmp_path / "b.xlsx")
