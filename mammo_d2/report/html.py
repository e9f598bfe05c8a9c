"""One self-contained HTML file from sections of text, numbers, tables and pictures.

The file needs no network and no other file: the style is inline, pictures are base64. A page has no script but that of
a ``Program`` (the viewer), and its policy lets the browser run no other. It follows the reader's light or dark scheme.
Every text given here is escaped, so it may come from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Protocol

from mammo_d2.core.files import atomic_write

DISCLAIMER = (
    "This report was made by mammo_d2, which is research software and no medical device. Nothing in it may be used for "
    "the diagnosis or the treatment of patients."
)

_STYLE_FILE = Path(__file__).with_name("report.css")
# Stands for a value that is unknown or undefined.
DASH = "\N{EN DASH}"

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class Block(Protocol):
    """A part of a section."""

    def html(self) -> str:
        """The block as HTML, everything escaped."""


@dataclass(frozen=True)
class Section:
    """A heading, also listed in the navigation, and its content."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Heading:
    """A smaller heading within a section."""

    text: str

    def html(self) -> str:
        return f"<h3>{escape(self.text)}</h3>"


@dataclass(frozen=True)
class Text:
    """A paragraph; ``small`` is for explanations."""

    text: str
    small: bool = False

    def html(self) -> str:
        kind = ' class="small"' if self.small else ""
        return f"<p{kind}>{escape(self.text)}</p>"


@dataclass(frozen=True)
class Note:
    """A paragraph that the reader must not overlook."""

    text: str

    def html(self) -> str:
        return f'<p class="note">{escape(self.text)}</p>'


@dataclass(frozen=True)
class Estimate:
    """A number with its interval, as a cell of a table or a headline number."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Stats:
    """A few headline numbers: (value, what it is) each."""

    numbers: Sequence[tuple[Any, str]]

    def html(self) -> str:
        tiles = (f"<div><b>{_cell(value)}</b><span>{escape(name)}</span></div>" for value, name in self.numbers)
        return f'<div class="stats">{"".join(tiles)}</div>'


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers are right-aligned and rounded (see ``format_number``), None and NaN become a dash.

    An ``Estimate`` has its interval below it.

    Attributes:
        columns: the headings.
        rows: cells of the same number as ``columns``; the first of a row names it.
        caption: a line above the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table row {list(row)} has {len(row)} cells for the columns {list(self.columns)}")

    def html(self) -> str:
        numeric = [any(_is_number(row[k]) for row in self.rows) for k in range(len(self.columns))]
        kind = [' class="number"' if is_numeric else "" for is_numeric in numeric]
        head = "".join(f'<th scope="col"{k}>{escape(name)}</th>' for name, k in zip(self.columns, kind, strict=True))
        body = "".join(f"<tr>{self._row(row, kind)}</tr>\n" for row in self.rows)
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        table = f"<table>{caption}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>"
        return f'<div class="scroll">{table}</div>'

    @staticmethod
    def _row(row: Sequence[Any], kind: Sequence[str]) -> str:
        first = f'<th scope="row"{kind[0]}>{_cell(row[0])}</th>'
        return first + "".join(f"<td{k}>{_cell(value)}</td>" for value, k in zip(row[1:], kind[1:], strict=True))


@dataclass(frozen=True)
class Terms:
    """Terms with their meaning."""

    terms: Sequence[tuple[str, str]]

    def html(self) -> str:
        items = (f"<dt>{escape(word)}</dt><dd>{escape(meaning)}</dd>" for word, meaning in self.terms)
        return f'<dl class="terms">{"".join(items)}</dl>'


@dataclass(frozen=True)
class Figure:
    """A PNG picture.

    Attributes:
        png: the file's bytes.
        caption: text below it, also read out in place of the picture.
        plot: a drawing on white, which a dark scheme may invert; photographs are never inverted.
    """

    png: bytes
    caption: str = ""
    plot: bool = False

    def __post_init__(self) -> None:
        if not self.png.startswith(_PNG_SIGNATURE):
            raise ValueError(f"the picture {self.caption!r} of a report must be the bytes of a PNG file")

    def html(self) -> str:
        # The header's width and height let the page be laid out before the picture is decoded.
        width, height = int.from_bytes(self.png[16:20], "big"), int.from_bytes(self.png[20:24], "big")
        kind = ' class="plot"' if self.plot else ""
        data = base64.b64encode(self.png).decode("ascii")
        caption = f"<figcaption>{escape(self.caption)}</figcaption>" if self.caption else ""
        return (
            f'<figure><img{kind} alt="{escape(self.caption)}" width="{width}" height="{height}" '
            f'src="data:image/png;base64,{data}">{caption}</figure>'
        )


@dataclass(frozen=True)
class Figures:
    """Pictures side by side; ``small`` puts many of them in a grid of equal cells."""

    figures: Sequence[Figure]
    small: bool = False

    def html(self) -> str:
        kind = "gallery" if self.small else "side"
        return f'<div class="{kind}">{"".join(figure.html() for figure in self.figures)}</div>'


@dataclass(frozen=True)
class Details:
    """Preformatted text behind a line that unfolds it."""

    summary: str
    text: str

    def html(self) -> str:
        return f"<details><summary>{escape(self.summary)}</summary><pre>{escape(self.text)}</pre></details>"


@dataclass(frozen=True)
class Program:
    """A script of a page with its style and its data; the only script that the browser may run there.

    Attributes:
        script, style: text of the JavaScript and CSS, from this package's files.
        data: becomes JSON, in the element ``data_id``, which the script finds.
        data_id: see ``data``.
        payload: HTML after the script (see ``data_block``), written piece by piece: it may be larger than memory.
    """

    script: str
    style: str
    data: Any
    data_id: str
    payload: Iterable[str] = ()


def data_block(identifier: str, kind: str, text: str, problem: str = "") -> str:
    """An element with text that only a script reads.

    Args:
        identifier: the element's id.
        kind: what the text is, in ``data-type``.
        text: base64.
        problem: why there is none, in ``data-problem``.
    """
    why = f' data-problem="{escape(problem)}"' if problem else ""
    return f'<script type="text/plain" id="{escape(identifier)}" data-type="{escape(kind)}"{why}>{text}</script>\n'


def report_parts(
    title: str, sections: Sequence[Section], subtitle: str = "", program: Program | None = None
) -> Iterator[str]:
    """The HTML text of a report, in pieces.

    Args:
        title: main heading and title of the page.
        sections: in reading order.
        subtitle: a line below the title, e.g. what was run and when.
        program: of the page.
    """
    anchors = [f"s{number}-{_slug(section.title)}" for number, section in enumerate(sections, start=1)]
    links = "".join(
        f'<li><a href="#{anchor}">{escape(section.title)}</a></li>'
        for anchor, section in zip(anchors, sections, strict=True)
    )
    body = "\n".join(
        f'<section id="{anchor}">\n<h2>{escape(section.title)}</h2>\n'
        + "\n".join(block.html() for block in section.blocks)
        + "\n</section>"
        for anchor, section in zip(anchors, sections, strict=True)
    )
    nav = f'<nav aria-label="Sections"><ul>{links}</ul></nav>' if len(sections) > 1 else ""
    line = f'<p class="subtitle">{escape(subtitle)}</p>' if subtitle else ""
    # The policy makes "no external hosts, no other script" something the browser enforces.
    policy, style = "default-src 'none'; img-src data:; style-src 'unsafe-inline'", _STYLE_FILE.read_text("utf-8")
    if program is not None:
        digest = base64.b64encode(hashlib.sha256(program.script.encode("utf-8")).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
        style += program.style
    yield f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<title>{escape(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><h1>{escape(title)}</h1>{line}{nav}</header>
<main>
{body}
</main>
<footer>{escape(DISCLAIMER)}</footer>
"""
    if program is not None:
        # "</script>" in a text would end the element; in JSON, "<" stands in texts alone.
        data = json.dumps(program.data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        data = data.replace("<", "\\u003c")
        yield f'<script type="application/json" id="{program.data_id}">{data}</script>\n'
        yield f"<script>{program.script}</script>\n"
        yield from program.payload
    yield "</body>\n</html>\n"


def render_report(title: str, sections: Sequence[Section], subtitle: str = "", program: Program | None = None) -> str:
    """The HTML text of a report; arguments as of ``report_parts``."""
    return "".join(report_parts(title, sections, subtitle, program))


def write_report(
    path: str | os.PathLike,
    title: str,
    sections: Sequence[Section],
    subtitle: str = "",
    program: Program | None = None,
) -> Path:
    """Write a report (see ``report_parts``) as one HTML file, atomically; missing folders are created."""
    with atomic_write(path, durable=False) as file:
        for part in report_parts(title, sections, subtitle, program):
            file.write(part.encode("utf-8"))
    return Path(path)


def format_number(value: float) -> str:
    """A number for a table: whole numbers in full, others with 3 decimals, or 3 digits below 0.1; a dash for NaN."""
    if not math.isfinite(value):
        return DASH if math.isnan(value) else ("∞" if value > 0 else "-∞")
    if isinstance(value, Integral) or (float(value).is_integer() and abs(value) >= 10):
        return str(int(value))
    return f"{value:.3g}" if 0 < abs(value) < 0.1 else f"{value:.3f}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (Real, Estimate)) and not isinstance(value, bool)


def _cell(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, Estimate):
        limits = f"{format_number(value.low)}{DASH}{format_number(value.high)}"
        return f"{escape(format_number(value.value))}<small>{escape(limits)}</small>"
    return escape(format_number(value) if _is_number(value) else str(value))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
