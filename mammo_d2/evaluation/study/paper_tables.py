"""Tables for a paper: Markdown and LaTeX (booktabs), with intervals, differences and p values."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_bytes_atomic


class Difference(Protocol):
    """A difference with its limits and p value."""

    @property
    def difference(self) -> float: ...

    @property
    def low(self) -> float: ...

    @property
    def high(self) -> float: ...

    @property
    def p(self) -> float: ...


def p_text(p: float) -> str:
    """A p value as journals print it: three digits, "<0.001" below, "--" if undefined."""
    if np.isnan(p):
        return "--"
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def value_text(value: float, low: float = float("nan"), high: float = float("nan"), digits: int = 3) -> str:
    """A number with its interval, "0.812 (0.700, 0.901)"; "--" if undefined."""
    if np.isnan(value):
        return "--"
    return f"{value:.{digits}f}" + ("" if np.isnan(low) else f" ({low:.{digits}f}, {high:.{digits}f})")


def difference_cells(difference: Difference | None) -> list[str]:
    """Two cells: the signed difference with its interval, and p; "--" where there is none."""
    if difference is None or np.isnan(difference.difference):
        return ["--", "--"]
    d = difference
    limits = "" if np.isnan(d.low) else f" ({d.low:+.3f}, {d.high:+.3f})"
    return [f"{d.difference:+.3f}{limits}", p_text(d.p)]


def write_tables(
    folder: str | os.PathLike,
    name: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    notes: Sequence[str] = (),
) -> list[Path]:
    """Write ``<name>.md`` and ``<name>.tex``; the LaTeX text needs the package booktabs.

    Args:
        folder: an existing one.
        name: of the files, without ending.
        header, rows: cells as text; special characters are escaped.
        notes: below the Markdown table, and as comments of the LaTeX one.
    """
    folder = Path(folder)
    # A bar would end a Markdown cell.
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    markdown = tabulate(cells[1:], cells[0], tablefmt="github", disable_numparse=True)
    latex = tabulate(rows, header, tablefmt="latex_booktabs", disable_numparse=True)
    below = "".join(f"\n\n{note}" for note in notes)
    above = "% needs \\usepackage{booktabs}\n" + "".join(f"% {note}\n" for note in notes)
    paths = [folder / f"{name}.md", folder / f"{name}.tex"]
    for path, text in zip(paths, (f"{markdown}{below}\n", f"{above}{latex}\n"), strict=True):
        write_bytes_atomic(path, text.encode("utf-8"))
    return paths
