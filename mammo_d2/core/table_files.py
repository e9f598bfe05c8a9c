"""Tables as people have them: CSV with any usual delimiter and encoding, or an Excel workbook (extra ``excel``).

The delimiter is a comma, semicolon or tab, whichever the first line has most of. Text may be UTF-8, with or without a
byte order mark, or UTF-16 with one, as spreadsheets write it.
"""

from __future__ import annotations

import csv
import datetime
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mammo_d2.core.files import FileFormatError, read_text

TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx")


@dataclass(frozen=True)
class TextTable:
    """Cells of a table.

    Attributes:
        path: the file.
        header: names of the columns.
        rows: (number of the line that a row begins on, its cells without blanks at their ends, one each column). The
            header is line 1; rows without any value are left out.
        decimal_comma: whether a comma in a number is a decimal one: the delimiter is another.
    """

    path: Path
    header: tuple[str, ...]
    rows: Sequence[tuple[int, list[str]]]
    decimal_comma: bool = False

    def by_column(self, error: type[ValueError] = FileFormatError) -> list[tuple[int, dict[str, str]]]:
        """The rows as {column: cell}.

        Raises:
            FileFormatError, or the given error: a column that is there twice.
        """
        if twice := [name for place, name in enumerate(self.header) if name and name in self.header[:place]]:
            raise error(f"{self.path}: line 1: column {twice[0]!r} is there twice; remove or rename one of them")
        return [(line, dict(zip(self.header, cells, strict=True))) for line, cells in self.rows]

    def number_text(self, text: str) -> str:
        """The text of a number with a decimal point."""
        return text.replace(",", ".") if self.decimal_comma else text


class ColumnNames(Mapping[str, str]):
    """What a command's option says of columns that have names of their own: {column: field}.

    Attributes:
        option: the option's name, for messages.
    """

    def __init__(self, fields: Mapping[str, str], option: str = "--columns"):
        self._fields, self.option = dict(fields), option
        self._found: set[str] = set()
        self._headers: list[str] = []

    @classmethod
    def parse(cls, texts: Iterable[str], option: str = "--columns") -> ColumnNames:
        """Of arguments such as ``Befund=class``.

        Raises:
            ValueError: another form, or two fields of one column.
        """
        fields: dict[str, str] = {}
        for text in texts:
            name, _, field = text.rpartition("=")
            if not name or not field:
                raise ValueError(f"{option} {text!r} must be NAME=FIELD, e.g. Befund=class")
            if fields.setdefault(name, field) != field:
                raise ValueError(f"{option}: column {name!r} is both {fields[name]} and {field}; name one of them")
        return cls(fields, option)

    def __getitem__(self, column: str) -> str:
        return self._fields[column]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def places(self, header: Sequence[str], fields: Iterable[str]) -> dict[str, int]:
        """{field: number of its column} of a table that may hold ``fields``, as far as its columns are named."""
        self._headers += [name for name in header if name and name not in self._headers]
        wanted = set(fields)
        named = [name for name, field in self._fields.items() if field in wanted and name in header]
        self._found.update(named)
        return {self._fields[name]: list(header).index(name) for name in named}

    def check_fields(self, fields: Iterable[str], error: type[ValueError] = FileFormatError) -> None:
        """Raise FileFormatError, or the given error, for a field that is none of ``fields``."""
        known = list(dict.fromkeys(fields))
        for name, field in self._fields.items():
            if field not in known:
                raise error(f"{self.option} {name}={field}: {field!r} must be one of {', '.join(known)}")

    def check_found(self, error: type[ValueError] = FileFormatError) -> None:
        """Raise FileFormatError, or the given error, for a column that no table had; when all are read."""
        for name, field in self._fields.items():
            if name not in self._found:
                there = ", ".join(self._headers) or "none"
                raise error(f"{self.option} {name}={field}: no table has a column {name!r}; there are {there}")


def read_any_table(
    path: str | os.PathLike[str], *, if_missing: str = "check the path", error: type[ValueError] = FileFormatError
) -> TextTable:
    """Read a table; see the module.

    Args:
        path: .xlsx, of which the active sheet is read, or any other name for text.
        if_missing: end of the message for a file that is not there.
        error: raised for a file that is no such table.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: no text in one of the encodings, no workbook, a row with more or fewer cells than the header,
            or a quotation mark that is not closed; or the given ``error``. The message names the line.
    """
    path = Path(path)
    if path.suffix.lower() == ".xlsx":
        cells = read_sheet(path, if_missing=if_missing, error=error)
        header, decimal_comma = [cell.strip() for cell in cells[0]] if cells else [], False
        lines = enumerate(cells[1:], start=2)
        while header and not header[-1]:
            header.pop()
    else:
        text = _text_of(path, if_missing, error)
        first = text.partition("\n")[0]
        delimiter = max(",;\t", key=first.count)
        decimal_comma = delimiter != ","
        parsed = _parsed(path, text, delimiter, error)
        header = [cell.strip() for cell in next(parsed, (1, []))[1]]
        lines = parsed  # type: ignore[assignment]
    rows = []
    for number, cells_of_row in lines:
        row = [cell.strip() for cell in cells_of_row]
        if not any(row):
            continue
        # Spreadsheets may write empty cells beyond the last column, and leave them out at the end of a row.
        while len(row) > len(header) and not row[-1]:
            row.pop()
        if path.suffix.lower() == ".xlsx":
            row += [""] * (len(header) - len(row))
        if len(row) != len(header):
            raise error(
                f"{path}: line {number}: {len(row)} fields, but line 1 has {len(header)}; write numbers with a decimal "
                "point, and quote text that holds the delimiter"
            )
        rows.append((number, row))
    return TextTable(path, tuple(header), rows, decimal_comma)


def read_sheet(
    path: str | os.PathLike[str],
    sheet: str = "",
    *,
    if_missing: str = "check the path",
    error: type[ValueError] = FileFormatError,
) -> list[list[str]]:
    """Cells of a workbook's sheet as text without blanks at its ends, "" where empty.

    Whole numbers come without a decimal point, dates as 2019-05-31.

    Args:
        path: an .xlsx file.
        sheet: its name, without regard to case and blanks at its ends; the active one by default, and where there is
            only one.
        if_missing, error: as of ``read_any_table``; ``error`` also for a missing openpyxl.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: no openpyxl, no such sheet, or no workbook; or the given ``error``.
    """
    try:
        import openpyxl
    except ImportError as cause:
        raise error(f"{path}: reading it needs openpyxl (pip install 'mammo_d2[excel]'); or save it as CSV") from cause
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; {if_missing}")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        names = {name.strip().lower(): name for name in book.sheetnames}
        found = names.get(sheet.lower()) if len(names) > 1 and sheet else book.active.title
        cells = list(book[found].iter_rows(values_only=True)) if found else []
        book.close()
    # Damaged files raise errors of many kinds.
    except Exception as cause:
        raise error(f"{path}: not an Excel workbook ({cause}); download it again, or save it as CSV") from cause
    if not found:
        raise error(f"{path}: no sheet {sheet!r}, only {', '.join(names.values())}; is this the right file?")
    return [[_cell_text(value) for value in row] for row in cells]


def _cell_text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime.datetime) and value.time() == datetime.time():
        return value.date().isoformat()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _text_of(path: Path, if_missing: str, error: type[ValueError]) -> str:
    start = path.open("rb").read(2) if path.is_file() else b""
    if start not in (b"\xff\xfe", b"\xfe\xff"):
        return read_text(path, if_missing=if_missing, error=error)
    try:
        return path.read_bytes().decode("utf-16")
    except UnicodeDecodeError as cause:
        raise error(f"{path}: begins as UTF-16 text, but is none; save it as UTF-8") from cause


def _parsed(path: Path, text: str, delimiter: str, error: type[ValueError]) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, cells) of each row."""
    # Strict: a quotation mark that is not closed would swallow the rows after it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    try:
        for cells in reader:
            number, line = line, reader.line_num + 1
            yield number, cells
    except csv.Error as cause:
        raise error(f"{path}: line {reader.line_num}: {cause}; is a quotation mark not closed?") from cause
