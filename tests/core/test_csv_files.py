"""CSV files: what a row is, and what ends in a named error instead of a shifted or lost field."""

import pytest

from mammo_d2.core.csv_files import read_csv
from mammo_d2.core.files import FileFormatError


def test_header_rows_and_line_numbers(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes('\ufeffid, name \r\n1,ä\r\n,\r\n2,"b, c"\r\n'.encode())
    assert read_csv(path) == (["id", "name"], [(2, {"id": "1", "name": "ä"}), (4, {"id": "2", "name": "b, c"})])
    path.write_text("")
    assert read_csv(path) == ([], [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"id,p,p\n1,0.2,0.9\n", "line 1: column 'p' is there twice; remove or rename"),
        (b"id,p\n1,0,5\n", "line 2: 3 fields, but line 1 has 2; write numbers with a decimal point"),
        (b"id,p\n1\n", "line 2: 1 fields, but line 1 has 2"),
        (b'id,p\n1,"0.5\n2,0.7\n', "line 3: unexpected end of data; is a quotation mark not closed"),
        (b"id,p\n1," + b"0" * 140_000, r"line 2: field larger than field limit \(131072\)"),
        ("id,p\n1,0.5\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("id,p\n1,0.5\n".encode("utf-16-le"), "holds zero bytes .is it UTF-16"),
        ("id,größe\n1,0.5\n".encode("latin-1"), "not UTF-8 text .*is it Latin-1.*save it as UTF-8"),
        (b"\x1f\x8b\x08\x00", "is compressed"),
        (b"id,p\n1,0.5\n" + b"1,0.5\n" * 99 + b"\0,1\n", "holds zero bytes"),
        (b'id,p\n"a\nb",1\n1\n', "line 4: 1 fields"),
        (b"PK\x03\x04\x14\x00", "is an Excel workbook or a ZIP archive; save the table as CSV"),
    ],
)
def test_what_is_no_table_is_a_named_error(tmp_path, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"t\.csv: {message}"):
        read_csv(tmp_path / "t.csv")


def test_other_delimiters_blank_fields_and_the_line_that_a_row_begins_on(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('id;p\n"a\nb";1\n2;3;;\n')
    rows = [(2, {"id": "a\nb", "p": "1"}), (4, {"id": "2", "p": "3"})]
    assert read_csv(path, delimiter=";") == (["id", "p"], rows)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"t\.csv: no such file; fetch it"):
        read_csv(path, if_missing="fetch it")
    path.mkdir()
    with pytest.raises(FileFormatError, match=r"t\.csv: is a folder"):
        read_csv(path)


def test_wanted_columns_alone(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,2,3\n")
    header, rows = read_csv(path, keep={"c", "a"})
    assert (header, rows) == (["a", "b", "c"], [(2, {"a": "1", "c": "3"})])
    path.write_text("a,b,c\n1,2\n")
    with pytest.raises(FileFormatError, match="2 fields, but line 1 has 3"):
        read_csv(path, keep={"a"})
