"""The columns of a truth table, and how columns with other names become them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mammo_d2.core.lesion_classes import LABELS
from mammo_d2.core.table_files import ColumnNames, TextTable, read_any_table
from mammo_d2.data.converters.converter import ConverterError

BOX = ("x", "y", "width", "height")
ROW_FACTS = ("patient_id", "exam_id", "exam_date", "laterality", "view", "kinds", "birads", "density", "split")
COLUMNS = ("file", "category", *BOX, *LABELS, *ROW_FACTS, "lesion_id")


class TruthColumns:
    """Columns of a truth table that are not named as in ``COLUMNS``.

    Args:
        names: arguments such as ``Befund=category``.
        ignored: columns that are not read.

    Raises:
        ValueError: an argument of another form.
    """

    def __init__(self, names: Sequence[str] = (), ignored: Sequence[str] = ()) -> None:
        self._names, self._ignored = ColumnNames.parse(names), list(ignored)

    def __bool__(self) -> bool:
        return bool(self._names) or bool(self._ignored)

    def of_truth(self, path: Path) -> tuple[TextTable, str]:
        """The table in ``COLUMNS``, and how it was understood.

        Raises:
            FileNotFoundError, ConverterError: no such table; it has no such column, or two of the same name.
        """
        table = read_any_table(
            path, if_missing="the table belongs to the data set, download it too", error=ConverterError
        )
        self._names.check_fields(COLUMNS, ConverterError)
        self._names.places(table.header, COLUMNS)
        self._names.check_found(ConverterError)
        if gone := [name for name in self._ignored if name not in table.header]:
            raise ConverterError(
                f"--ignore-columns {gone[0]}: {path} has no such column; it has {', '.join(table.header) or 'none'}"
            )
        kept = [place for place, name in enumerate(table.header) if name not in self._ignored]
        header = tuple(self._names.get(table.header[place], table.header[place]) for place in kept)
        rows = [(line, [cells[place] for place in kept]) for line, cells in table.rows]
        columns = [
            name if name == table.header[place] else f"{name} from {table.header[place]}"
            for name, place in zip(header, kept, strict=True)
        ]
        ignored = f"; ignored: {', '.join(self._ignored)}" if self._ignored else ""
        understood = f"truth {path.name}: {len(rows)} rows; columns {', '.join(columns)}{ignored}"
        return TextTable(path, header, rows, table.decimal_comma), understood
