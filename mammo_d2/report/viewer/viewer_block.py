"""The viewer as a block of a report, and its program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from mammo_d2.report.html import Block, Program
from mammo_d2.report.viewer.embedded_images import image_blocks
from mammo_d2.report.viewer.viewed_data import ViewedDataset, viewer_data

#: Most images in a file, unless the caller says otherwise.
MAX_IMAGES = 1000

_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Viewer:
    """The viewer of one page: ``block`` goes into a section, ``program`` to the page.

    Attributes:
        datasets: what is shown.
        limit: most images in the file.
        side: longest side of an image in the file, in pixels; None: as they are.
        layout: at the start: "single", "exam", "compare" or "grid".
    """

    datasets: Sequence[ViewedDataset]
    limit: int = MAX_IMAGES
    side: int | None = None
    layout: str = "single"

    @cached_property
    def data(self) -> dict[str, Any]:
        """The JSON; raises ValueError for data sets that do not fit each other."""
        return viewer_data(self.datasets, self.limit, self.layout)

    @property
    def block(self) -> Block:
        """Where the viewer appears; a reader without JavaScript is told."""
        return _Place(self.data["note"])

    @property
    def program(self) -> Program:
        """Script, style and data; images are read while the page is written."""
        script, style = ((_FOLDER / name).read_text(encoding="utf-8") for name in ("viewer.js", "viewer.css"))
        return Program(script, style, self.data, "viewer-data", image_blocks(self.datasets, self.data, self.side))


@dataclass(frozen=True)
class _Place:
    note: str

    def html(self) -> str:
        note = f'<p class="small">{escape(self.note)}</p>' if self.note else ""
        words = "The images are shown by a script in this file, which needs JavaScript; no network is used."
        return f'<div id="viewer" class="viewer"><noscript><p>{words}</p></noscript></div>{note}'
