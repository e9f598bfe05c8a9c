"""Figures of the statistics show what they are given."""

import numpy as np
import pytest

from mammo_d2.evaluation.metrics.calibration.reliability import ReliabilityDiagram
from mammo_d2.evaluation.statistics import figures
from mammo_d2.evaluation.statistics.figures import plot_decision_curve, plot_reliability
from mammo_d2.evaluation.study.plots import PlotCurve

DIAGRAM = ReliabilityDiagram(*(np.array(v) for v in ([0.1, 0.4], [0.05, 0.5], [0.0, 0.3], [0.2, 0.7], [5, 5])))


@pytest.fixture
def saved(monkeypatch):
    kept = []
    save = figures.save_figure
    monkeypatch.setattr(figures, "save_figure", lambda figure, path: kept.append(figure) or save(figure, path))
    return kept


def test_reliability(saved, tmp_path):
    plot_reliability({"as given": DIAGRAM, "platt $": DIAGRAM}, tmp_path / "r.svg")
    axes = saved[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "perfect calibration",
        "as given",
        "platt \\$",
    ]
    assert axes.get_lines()[1].get_ydata().tolist() == [0.05, 0.5]
    assert len(axes.collections) == 2
    assert axes.get_xlim() == (0, pytest.approx(0.525))


def test_decision_curve(saved, tmp_path):
    x = np.array([0.01, 0.1])
    curves = [
        PlotCurve("a", x, np.array([0.02, 0.01]), x, np.array([0.01, 0.0]), np.array([0.04, 0.02])),
        PlotCurve("b", x, np.array([0.01, 0.005])),
    ]
    plot_decision_curve(curves, (x, np.array([0.025, -0.1])), tmp_path / "d.pdf")
    axes = saved[0].axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["nobody", "everybody", "a", "b"]
    assert len(axes.collections) == 1
    assert axes.get_ylim()[1] == pytest.approx(1.1 * 0.04, abs=1e-5)
    assert axes.get_xlim() == (0.01, 0.1)
