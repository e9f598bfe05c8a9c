"""Figures of ``mammo-d2 stats``: reliability diagrams and decision curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mammo_d2.evaluation.metrics.calibration.reliability import ReliabilityDiagram
from mammo_d2.evaluation.study.figure_style import line_look, new_axes, plain_text, save_figure
from mammo_d2.evaluation.study.plots import PlotCurve


def plot_reliability(diagrams: Mapping[str, ReliabilityDiagram], path: str | os.PathLike) -> Path:
    """Observed rate against mean probability with the points' intervals, and the line of perfect calibration.

    The axes end at the highest value shown: at 3 % prevalence most of the unit square would be empty.
    """
    figure, axes = new_axes("")
    shown = [d for d in diagrams.values() if len(d.mean)]
    top = min(1.0, 1.05 * max((float(max(d.mean.max(), d.rate.max(), 0.02)) for d in shown), default=1.0))
    axes.plot([0, top], [0, top], color="0.6", linewidth=1, label="perfect calibration")
    for number, (name, diagram) in enumerate(diagrams.items()):
        look = line_look(number)
        axes.plot(diagram.mean, diagram.rate, marker="o", markersize=4, label=plain_text(name), **look)
        axes.fill_between(diagram.mean, diagram.low, diagram.high, color=look["color"], alpha=0.2, linewidth=0)
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("mean probability")
    axes.set_ylabel("observed rate")
    axes.legend(loc="upper left")
    return save_figure(figure, path)


def plot_decision_curve(
    curves: Sequence[PlotCurve], everybody: tuple[np.ndarray, np.ndarray], path: str | os.PathLike
) -> Path:
    """Net benefit against threshold probability, with bands, and the lines of acting on everybody and on nobody.

    Args:
        curves: of the models.
        everybody: thresholds and net benefit of acting on everybody, each (T,).
        path: of the file.
    """
    figure, axes = new_axes("")
    axes.axhline(0, color="0.4", linewidth=1, label="nobody")
    axes.plot(*everybody, color="0.6", linewidth=1, linestyle="--", label="everybody")
    highest = float(np.nanmax([*everybody[1], 0.0]))
    for number, curve in enumerate(curves):
        look = line_look(number)
        axes.plot(curve.x, curve.y, label=plain_text(curve.name), **look)
        if curve.band_x is not None and curve.band_low is not None and curve.band_high is not None:
            axes.fill_between(
                curve.band_x, curve.band_low, curve.band_high, color=look["color"], alpha=0.2, linewidth=0
            )
            highest = max(highest, float(np.nanmax(curve.band_high)))
        highest = max(highest, float(np.nanmax(curve.y)))
    axes.set_ylim(-0.3 * highest - 1e-6, 1.1 * highest + 1e-6)
    axes.set_xlim(float(everybody[0].min()), float(everybody[0].max()))
    axes.set_xlabel("threshold probability")
    axes.set_ylabel("net benefit")
    axes.legend(loc="upper right")
    return save_figure(figure, path)
