"""Sphinx: the documents of the repository as a site (``make docs``; the sources are those of the folder above)."""

import mammo_d2

project = "mammo_d2"
author = copyright = "mammo_d2 contributors"
version = release = mammo_d2.__version__

root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "datasets/README.md", "models/**.md"]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 4
autodoc_member_order = "bysource"
autodoc_typehints = "description"

html_theme = "furo"
html_title = f"mammo_d2 {release}"
html_extra_path = ["_site"]
