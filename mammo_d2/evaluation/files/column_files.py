"""Tables in files for large results: numpy's .npz with no other package, and Parquet by pyarrow (extra ``fast``)."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mammo_d2.core.array_files import load_arrays
from mammo_d2.core.files import atomic_write
from mammo_d2.evaluation.files.results import ResultsError

COLUMN_SUFFIXES = (".npz", ".parquet")
_REMEDY = "write it again, e.g. with numpy.savez"


def read_columns(path: str | os.PathLike, names: Sequence[str], optional: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Columns of a .npz or .parquet file.

    Args:
        path: the file.
        names: columns that it must have.
        optional: read where they are there.

    Returns:
        (n,) numbers or text by name. Missing numbers of a Parquet file are NaN.

    Raises:
        FileNotFoundError: no such file.
        ModuleNotFoundError: Parquet without pyarrow.
        ResultsError: not such a file; a column is missing, has another length than the others or several dimensions,
            or holds missing ids or anything but numbers and text.
    """
    path = Path(path)
    wanted = [*names, *optional]
    if path.suffix.lower() == ".npz":
        try:
            columns = load_arrays(path, _REMEDY, wanted)
        except ValueError as error:
            raise ResultsError(str(error)) from error
    else:
        columns = _parquet_columns(path, wanted)
    for name in names:
        if name not in columns:
            raise ResultsError(f"{path}: column {name!r} is missing; it needs {', '.join(names)}")
    lengths = {len(values) if values.ndim == 1 else -1 for values in columns.values()}
    if len(lengths) > 1 or -1 in lengths:
        shapes = ", ".join(f"{name} {values.shape}" for name, values in columns.items())
        raise ResultsError(f"{path}: columns {shapes}: all must be lists of one length")
    for name, values in columns.items():
        if values.dtype.kind not in "iufU":
            raise ResultsError(f"{path}: column {name} holds {values.dtype}; it must hold numbers or text in every row")
    return columns


def _parquet_columns(path: Path, wanted: Sequence[str]) -> dict[str, np.ndarray]:
    import pyarrow
    from pyarrow import parquet

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; check the path")
    try:
        with parquet.ParquetFile(path) as file:
            names = [name for name in wanted if name in file.schema_arrow.names]
            table = file.read(columns=names)
    except (pyarrow.ArrowException, OSError) as error:
        raise ResultsError(f"{path}: not a Parquet file ({str(error).splitlines()[0]}); write it again") from error
    columns = {}
    for name in names:
        column = table.column(name).combine_chunks()
        values = column.to_numpy(zero_copy_only=False)
        # Text comes as Python objects; with a missing one it stays so and is refused.
        is_text = values.dtype == object and not column.null_count and all(isinstance(value, str) for value in values)
        columns[name] = values.astype(str) if is_text else values
    return columns


def write_columns(path: str | os.PathLike, columns: Mapping[str, np.ndarray]) -> Path:
    """Write (n,) columns of numbers or text by name as .npz or .parquet, atomically.

    Raises:
        ModuleNotFoundError: Parquet without pyarrow.
    """
    path = Path(path)
    if path.suffix.lower() == ".npz":
        with atomic_write(path, durable=False) as file:
            np.savez_compressed(file, allow_pickle=False, **dict(columns))
        return path
    import pyarrow
    from pyarrow import parquet

    with atomic_write(path, durable=False) as file:
        parquet.write_table(pyarrow.table(dict(columns)), file)
    return path
