"""Reading CSV files with a header: every row complete, every column once."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path

from mammo_d2.core.files import FileFormatError, read_text


def read_csv(
    path: str | os.PathLike[str], *, error: type[ValueError] = FileFormatError
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and rows of a CSV file in UTF-8, separated by commas; rows without any value are skipped.

    Args:
        path: the file.
        error: raised for a file that is no such table.

    Returns:
        the column names, and of every row its line number (the header is line 1) and its fields by column.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: another encoding, a column that is there twice, a row with more or fewer fields than the
            header, a quotation mark that is not closed; or the given ``error``. The message names the line.
    """
    path = Path(path)
    reader = csv.reader(io.StringIO(read_text(path, error=error), newline=""), strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for place, name in enumerate(header) if name and name in header[:place]]:
            raise error(f"{path}: line 1: column {twice[0]!r} is there twice; remove or rename one of them")
        for values in reader:
            if not any(value.strip() for value in values):
                continue
            if len(values) != len(header):
                raise error(
                    f"{path}: line {reader.line_num}: {len(values)} fields, but line 1 has {len(header)}; write "
                    "numbers with a decimal point, and quote text that holds a comma"
                )
            rows.append((reader.line_num, dict(zip(header, values, strict=True))))
    except csv.Error as cause:
        raise error(f"{path}: line {reader.line_num}: {cause}; is a quotation mark not closed?") from cause
    return header, rows
