"""Sphinx: the documents of the repository as a site (``make docs``; the sources are those of the folder above)."""

import json
from typing import Any

from myst_parser.parsers.sphinx_ import MystParser

import mammo_d2

project = "mammo_d2"
author = copyright = "mammo_d2 contributors"
version = release = mammo_d2.__version__

root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "docs/**.ipynb", "datasets/README.md", "models/**.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"


class NotebookParser(MystParser):
    """Shows a notebook's text and code; tests/docs/test_notebooks.py runs it."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Parse the notebook's JSON as the Markdown of its cells."""
        parts = []
        for cell in json.loads(inputstring)["cells"]:
            text = "".join(cell["source"])
            parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        super().parse("\n\n".join(parts), document)


def setup(app: Any) -> None:
    """Register the notebooks' parser."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)


html_theme = "furo"
html_title = f"mammo_d2 {release}"
html_extra_path = ["_site"]
