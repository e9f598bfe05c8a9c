"""Plots show what they are given: lines, bands, axes, and a legend that names what is undefined."""

import numpy as np
import pytest
from matplotlib import image as mpl_image

from mammo_d2.evaluation.study import plots
from mammo_d2.evaluation.study.plots import ForestRow, PlotCurve, plot_forest, plot_froc, plot_roc, plot_tnr

NAN = np.array([np.nan, np.nan])
X, Y = np.array([0.0, 0.5, 2.0]), np.array([0.2, 0.6, 0.8])
BAND = (np.array([0.1, 1.0]), np.array([0.1, 0.4]), np.array([0.5, 0.9]))


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved, instead of only their files."""
    saved = []
    save = plots.save_figure
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: saved.append(figure) or save(figure, path))
    return saved


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_froc_holds_the_last_sensitivity_to_the_right_edge(figures, tmp_path):
    path = plot_froc(
        [PlotCurve("a", X, Y, *BAND), PlotCurve("b", NAN, NAN)], tmp_path / "sub" / "f.png", "F", (0.25, 8)
    )
    axes = figures[0].axes[0]
    line = axes.get_lines()[0]
    assert (line.get_xdata()[-1], line.get_ydata()[-1]) == (8, 0.8)
    assert legend(axes) == ["a", "b (undefined)"]
    assert axes.get_xlim() == (0.25, 8)
    assert axes.get_xscale() == "log"
    assert len(axes.collections) == 1
    assert mpl_image.imread(path).std() > 0


@pytest.mark.parametrize("plot", [plot_roc, plot_tnr])
def test_curves_with_and_without_band(figures, tmp_path, plot):
    plot([PlotCurve("a", X, Y, *BAND), PlotCurve("b", X, Y), PlotCurve("c", NAN, NAN)], tmp_path / "r.png")
    axes = figures[0].axes[0]
    assert legend(axes) == ["a", "b", "c (undefined)"]
    assert len(axes.collections) == 1


def test_dollar_signs_are_no_formula(figures, tmp_path):
    plot_roc([PlotCurve("$a^2$ and $", X, Y)], tmp_path / "r.png", "5 $ to 9 $")
    axes = figures[0].axes[0]
    assert legend(axes) == [r"\$a^2\$ and \$"]
    assert axes.get_title() == r"5 \$ to 9 \$"


def test_forest_has_a_row_for_every_metric(figures, tmp_path):
    rows = [
        ForestRow("first", 0.1, -0.1, 0.2, "p = 0.3"),
        ForestRow("second", float("nan"), float("nan"), float("nan")),
    ]
    plot_forest(rows, tmp_path / "forest.png", "b against a", "difference")
    axes = figures[0].axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["first", "second"]
    assert sorted(len(line.get_xdata()) for line in axes.get_lines()) == [1, 2, 2]
    assert [t.get_text() for t in axes.texts] == ["p = 0.3", ""]
