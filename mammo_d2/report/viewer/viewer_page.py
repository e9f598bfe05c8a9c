"""A page with the viewer alone: for predictions, foreign results, prepared data sets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from mammo_d2.report.html import DISCLAIMER, Block, Note, Section, Text, write_report
from mammo_d2.report.viewer.viewer_block import Viewer


def write_viewer_page(path: str | os.PathLike, title: str, viewer: Viewer, words: Sequence[str] = ()) -> Path:
    """Write the page.

    Args:
        path: the HTML file.
        title: of the page.
        viewer: what it shows.
        words: paragraphs below it.
    """
    blocks: list[Block] = [viewer.block, *(Text(text, small=True) for text in words), Note(DISCLAIMER)]
    return write_report(path, title, [Section("Images", blocks)], program=viewer.program)
