"""One look for all figures: colours that colour-blind readers tell apart, line styles, and PNG, PDF or SVG files."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from mammo_d2.core.files import write_bytes_atomic

#: File formats of figures; PDF and SVG keep text as text.
FIGURE_FORMATS = ("png", "pdf", "svg")
#: Okabe & Ito's colours (2008), without the yellow that is lost on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
#: Beside the colours, for prints in grey.
LINE_STYLES = ("-", "--", "-.", ":")

# No Type 3 fonts (journals refuse them), SVG text stays text, and no dates: the same figure is the same file.
_SAVED: dict[Any, Any] = {"pdf.fonttype": 42, "svg.fonttype": "none", "svg.hashsalt": "mammo_d2"}
_METADATA = {"png": {"Software": None}, "pdf": {"CreationDate": None}, "svg": {"Date": None}}


def plain_text(text: str) -> str:
    """A text that matplotlib shows as it is: a dollar sign would begin a formula."""
    return text.replace("$", r"\$")


def line_look(number: int) -> dict[str, Any]:
    """Colour and line style of the n-th line; 28 of them differ."""
    return {
        "color": PALETTE[number % len(PALETTE)],
        "linestyle": LINE_STYLES[(number + number // (len(PALETTE) * len(LINE_STYLES))) % len(LINE_STYLES)],
    }


def new_axes(title: str, size: tuple[float, float] = (5.5, 4.5)) -> tuple[Figure, Axes]:
    """A figure with one pair of axes, without a display or global state.

    Args:
        title: shown above; empty: none.
        size: width and height in inches.
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if title:
        axes.set_title(plain_text(title))
    axes.grid(True, alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Figure, path: str | os.PathLike) -> Path:
    """Write a figure in the format that the file's name ends with.

    Raises:
        ValueError: a format that is none of ``FIGURE_FORMATS``.
    """
    path = Path(path)
    kind = path.suffix.lstrip(".").lower()
    if kind not in FIGURE_FORMATS:
        raise ValueError(f"{path}: figures are written as {', '.join(FIGURE_FORMATS)}; name the file so")
    buffer = io.BytesIO()
    with matplotlib.rc_context(_SAVED):
        figure.savefig(buffer, format=kind, dpi=130, metadata=_METADATA[kind])
    write_bytes_atomic(path, buffer.getvalue())
    return path
