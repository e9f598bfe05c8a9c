"""Tables of data sets that come as Excel workbooks (extra ``excel``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mammo_d2.core.table_files import read_sheet
from mammo_d2.data.converters.converter import ConverterError, checked_rows, read_table

_IF_MISSING = "the table belongs to the data set, download it too"


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
    return read_sheet(path, sheet, if_missing=_IF_MISSING, error=ConverterError)


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
