"""Tables for a paper: cells, and what Markdown and LaTeX need escaped."""

import pytest

from mammo_d2.evaluation.metrics.bootstrap import Comparison
from mammo_d2.evaluation.study.paper_tables import difference_cells, p_text, value_text, write_tables

NAN = float("nan")


@pytest.mark.parametrize(("p", "text"), [(0.04567, "0.046"), (0.0004, "<0.001"), (0.001, "0.001"), (NAN, "--")])
def test_p_values(p, text):
    assert p_text(p) == text


def test_cells():
    assert value_text(0.81234, 0.7, 0.9) == "0.812 (0.700, 0.900)"
    assert value_text(0.81234) == "0.812"
    assert value_text(NAN) == "--"
    assert difference_cells(Comparison(0.05, -0.01, 0.11, 0.1)) == ["+0.050 (-0.010, +0.110)", "0.100"]
    assert difference_cells(Comparison(0.05, NAN, NAN, NAN)) == ["+0.050", "--"]
    assert difference_cells(None) == ["--", "--"]


def test_files(tmp_path):
    paths = write_tables(tmp_path, "t", ["metric", "a_b | c"], [["sens@0.5", "<0.001"], ["5 %", "-0.010"]], ["a note"])
    markdown, latex = (path.read_text() for path in paths)
    assert [path.name for path in paths] == ["t.md", "t.tex"]
    assert "| metric   | a_b \\| c   |" in markdown
    assert "| 5 %      | -0.010     |" in markdown
    assert markdown.endswith("\n\na note\n")
    assert latex.startswith("% needs \\usepackage{booktabs}\n% a note\n")
    assert "a\\_b" in latex
    assert "5 \\%" in latex
    assert "\\toprule" in latex
