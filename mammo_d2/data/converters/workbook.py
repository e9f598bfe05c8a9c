"""Tables of data sets that come as Excel workbooks (extra ``excel``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mammo_d2.data.converters.converter import ConverterError, checked_rows, read_table


def read_cells(path: str | os.PathLike[str], sheet: str = "") -> list[list[str]]:
    """Cells of a sheet as stripped text, "" where empty; whole numbers without a decimal point.

    Args:
        path: an .xlsx file.
        sheet: name of the sheet, without regard to case and blanks at its ends; the active one by default, and where
            there is only one.

    Raises:
        FileNotFoundError: no such file.
        ConverterError: no openpyxl, no such sheet, or no workbook.
    """
    try:
        import openpyxl
    except ImportError as error:
        raise ConverterError(
            f"{path}: reading it needs openpyxl (pip install 'mammo_d2[excel]'); or save it as CSV"
        ) from error
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; the table belongs to the data set, download it too")
    try:
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        names = {name.strip().lower(): name for name in book.sheetnames}
        found = names.get(sheet.lower()) if len(names) > 1 and sheet else book.active.title
        cells = list(book[found].iter_rows(values_only=True)) if found else []
        book.close()
    # Damaged files raise errors of many kinds.
    except Exception as error:
        raise ConverterError(
            f"{path}: not an Excel workbook ({error}); download it again, or save it as CSV"
        ) from error
    if not found:
        raise ConverterError(f"{path}: no sheet {sheet!r}, only {', '.join(names.values())}; is this the right file?")
    return [[_text(value) for value in row] for row in cells]


def read_table_file(
    path: str | os.PathLike[str], columns: Sequence[str], sheet: str = "", unique: Sequence[str] = ()
) -> list[dict[str, str]]:
    """Rows of a CSV file or of a workbook's sheet; arguments and errors as of ``read_table`` and ``read_cells``."""
    if Path(path).suffix.lower() != ".xlsx":
        return read_table(path, columns, unique=unique)
    header, *body = read_cells(path, sheet) or [[]]
    while header and not header[-1]:
        header.pop()
    twice = [name for place, name in enumerate(header) if name and name in header[:place]]
    if twice:
        raise ConverterError(f"{path}: column {twice[0]!r} is there twice; remove or rename one of them")
    for number, row in enumerate(body, start=2):
        if any(row[len(header) :]):
            raise ConverterError(f"{path}, line {number}: a cell beyond the last column; remove it")
    rows = [
        {**dict(zip(header, row, strict=False)), "#": str(number)}
        for number, row in enumerate(body, start=2)
        if any(row)
    ]
    return checked_rows(path, header, rows, columns, unique)


def _text(value: object) -> str:
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()
