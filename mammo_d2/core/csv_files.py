"""Reading CSV files with a header: every row complete, every column once."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection
from pathlib import Path

from mammo_d2.core.files import FileFormatError, read_text

DELIMITERS = {",": "a comma", ";": "a semicolon"}


def read_csv(
    path: str | os.PathLike[str],
    *,
    delimiter: str = ",",
    keep: Collection[str] | None = None,
    if_missing: str = "check the path",
    error: type[ValueError] = FileFormatError,
) -> tuple[list[str], list[tuple[int, dict[str, str]]]]:
    """Header and rows of a CSV file in UTF-8; rows without any value are skipped.

    Args:
        path: the file.
        delimiter: between fields.
        keep: columns whose fields are wanted, of a table with hundreds; all if None.
        if_missing: end of the message for a file that is not there.
        error: raised for a file that is no such table.

    Returns:
        the column names, and of every row the number of the line that it begins on (the header is line 1) and its
        fields by column, as they are written.

    Raises:
        FileNotFoundError: no such file.
        FileFormatError: another encoding, a column that is there twice, a row with more or fewer fields than the
            header, a quotation mark that is not closed; or the given ``error``. The message names the line.
    """
    path = Path(path)
    text = read_text(path, if_missing=if_missing, error=error)
    # Strict: a quotation mark that is not closed would swallow the rows after it.
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[tuple[int, dict[str, str]]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if twice := [name for place, name in enumerate(header) if name and name in header[:place]]:
            raise error(f"{path}: line 1: column {twice[0]!r} is there twice; remove or rename one of them")
        line = reader.line_num + 1
        for values in reader:
            number, line = line, reader.line_num + 1
            if not any(value.strip() for value in values):
                continue
            # Spreadsheets may write empty fields beyond the last column.
            while len(values) > len(header) and not values[-1].strip():
                values.pop()
            if len(values) != len(header):
                raise error(
                    f"{path}: line {number}: {len(values)} fields, but line 1 has {len(header)}; write numbers with a "
                    f"decimal point, and quote text that holds {DELIMITERS.get(delimiter, 'the delimiter')}"
                )
            fields = zip(header, values, strict=True)
            rows.append((number, {name: value for name, value in fields if keep is None or name in keep}))
    except csv.Error as cause:
        raise error(f"{path}: line {reader.line_num}: {cause}; is a quotation mark not closed?") from cause
    return header, rows
