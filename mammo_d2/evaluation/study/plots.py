"""FROC and ROC curves and forest plots as PNG, PDF or SVG files, by the name of the file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mammo_d2.evaluation.study.figure_style import PALETTE, line_look, new_axes, plain_text, save_figure


@dataclass(frozen=True)
class PlotCurve:
    """One line of a plot: ``x``, ``y`` (K,), a name for the legend, and a band (``band_x``, low, high) if it is set."""

    name: str
    x: np.ndarray
    y: np.ndarray
    band_x: np.ndarray | None = None
    band_low: np.ndarray | None = None
    band_high: np.ndarray | None = None


def _band(axes, curve: PlotCurve, color: str) -> None:
    if curve.band_low is not None:
        axes.fill_between(curve.band_x, curve.band_low, curve.band_high, color=color, alpha=0.2, linewidth=0)


def plot_froc(
    curves: Sequence[PlotCurve],
    path: str | os.PathLike,
    title: str = "FROC",
    rates: Sequence[float] = (0.125, 8.0),
    recall_of: str = "lesion",
) -> Path:
    """FROC curves with a logarithmic x axis over the range of ``rates``, drawn as steps and held to the right edge."""
    figure, axes = new_axes(title)
    low, high = min(r for r in (*rates, 1.0) if r > 0), max(*rates, 1.0)
    low = low if low < high else high / 8
    for number, curve in enumerate(curves):
        look = line_look(number)
        if len(curve.x) and np.isfinite(curve.x).all():
            x, y = np.append(curve.x, max(high, curve.x[-1])), np.append(curve.y, curve.y[-1])
            axes.step(np.maximum(x, low / 100), y, where="post", **look, label=plain_text(curve.name))
            _band(axes, curve, look["color"])
        else:
            axes.plot([], [], **look, label=plain_text(f"{curve.name} (undefined)"))
    axes.set_xscale("log", base=2)
    axes.set_xlim(low, high)
    ticks = [rate for rate in rates if rate > 0]
    axes.set_xticks(ticks, [f"{rate:g}" for rate in ticks])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false positives per image")
    axes.set_ylabel(f"sensitivity ({recall_of}s)")
    axes.legend(loc="lower right")
    return save_figure(figure, path)


def plot_roc(curves: Sequence[PlotCurve], path: str | os.PathLike, title: str = "ROC") -> Path:
    """ROC curves; ``x`` is 1 - specificity and ``y`` sensitivity."""
    figure, axes = new_axes(title)
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1, linestyle="--")
    for number, curve in enumerate(curves):
        look = line_look(number)
        if np.isfinite(curve.x).all() and np.isfinite(curve.y).all():
            axes.plot(curve.x, curve.y, **look, label=plain_text(curve.name))
            _band(axes, curve, look["color"])
        else:
            axes.plot([], [], **look, label=plain_text(f"{curve.name} (undefined)"))
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.legend(loc="lower right")
    return save_figure(figure, path)


def plot_tnr(curves: Sequence[PlotCurve], path: str | os.PathLike, title: str = "Benign lesions sorted out") -> Path:
    """True negative rate (``y``) against false negative rate (``x``), up to FNR 0.2."""
    figure, axes = new_axes(title)
    for number, curve in enumerate(curves):
        look = line_look(number)
        if np.isfinite(curve.y).all():
            axes.step(curve.x, curve.y, where="post", **look, label=plain_text(curve.name))
            _band(axes, curve, look["color"])
        else:
            axes.plot([], [], **look, label=plain_text(f"{curve.name} (undefined)"))
    axes.set_xlim(0, 0.2)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("false negative rate (malignant missed)")
    axes.set_ylabel("true negative rate (benign sorted out)")
    axes.legend(loc="lower right")
    return save_figure(figure, path)


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot: a name, a difference and its confidence limits, and a note on the right."""

    name: str
    value: float
    low: float
    high: float
    note: str = ""


def plot_forest(rows: Sequence[ForestRow], path: str | os.PathLike, title: str, xlabel: str) -> Path:
    """Differences with their intervals, one row each, around a line at 0; undefined rows keep their place."""
    figure, axes = new_axes(title, (7.0, 1.4 + 0.32 * len(rows)))
    places = np.arange(len(rows))[::-1]
    axes.axvline(0, color="0.4", linewidth=1)
    for place, row in zip(places, rows, strict=True):
        if np.isfinite([row.value, row.low, row.high]).all():
            axes.plot([row.low, row.high], [place, place], color=PALETTE[0], linewidth=1.5)
            axes.plot([row.value], [place], marker="s", color=PALETTE[0], markersize=5)
        axes.annotate(
            row.note, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, annotation_clip=False
        )
    axes.set_yticks(places, [row.name for row in rows])
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.set_xlabel(xlabel)
    axes.grid(True, axis="x", alpha=0.3)
    return save_figure(figure, path)
