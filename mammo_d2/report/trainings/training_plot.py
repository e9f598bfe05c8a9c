"""The course of a training, or of several: losses, learning rate, metrics of the evaluations on the way; as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Metrics worth following, by the end of their key.
FOLLOWED = ("coco/AP50", "/mean_sens", "patient/auc", "lesion/auc")

# Beyond ten trainings the colours begin again, in other lines.
_LINES = ("-", "--", ":")


def plot_losses(scalars: Sequence[Mapping[str, float]]) -> bytes | None:
    """Total loss with its parts above, the learning rate below, over the iterations.

    Args:
        scalars: lines of the training log.

    Returns:
        PNG; None if the log has no finite loss.
    """
    names = sorted({name for line in scalars for name in line if name.startswith("loss_")})
    total = _series(scalars, "total_loss")
    if not total[0]:
        return None
    figure = Figure(figsize=(7.5, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    losses, rate = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    losses.plot(*total, color="black", linewidth=1.6, label="total")
    for number, name in enumerate(names):
        losses.plot(*_series(scalars, name), color=f"C{number}", linewidth=1, label=name.removeprefix("loss_"))
    # The first steps of an untrained model can be far above the rest, which would then be a flat line.
    settled = total[1][len(total[1]) // 20 :]
    losses.set_ylim(0, 1.08 * max(settled) or 1.0)
    losses.set_ylabel("loss")
    losses.grid(True, alpha=0.3)
    losses.legend(fontsize="small", ncols=2, frameon=False)
    rate.plot(*_series(scalars, "lr"), color="0.35", linewidth=1)
    rate.set_ylim(bottom=0)
    rate.set_ylabel("learning rate")
    rate.set_xlabel("iteration")
    rate.grid(True, alpha=0.3)
    return _png(figure)


def plot_evaluations(scalars: Sequence[Mapping[str, float]]) -> bytes | None:
    """The metrics named in ``FOLLOWED`` over the iterations.

    Returns:
        PNG; None unless at least two evaluations were logged.
    """
    names = sorted({name for line in scalars for name in line if name.endswith(FOLLOWED)})
    curves = {name: _series(scalars, name) for name in names}
    curves = {name: series for name, series in curves.items() if len(series[0]) > 1}
    if not curves:
        return None
    figure = Figure(figsize=(7.5, 2.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, series in curves.items():
        axes.plot(*series, marker="o", markersize=3, linewidth=1.2, label=name)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("iteration")
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize="small", frameon=False)
    return _png(figure)


def compared_names(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> list[str]:
    """What ``plot_compared`` draws a panel of: the losses, then the metrics of ``FOLLOWED``, that any log has.

    Args:
        logs: lines of the training logs by name.
    """
    names = {name for scalars in logs.values() for line in scalars for name in line if _series(scalars, name)[0]}
    parts = sorted(name for name in names if name.startswith(("loss_", "validation/")))
    metrics = sorted(name for name in names if name.endswith(FOLLOWED))
    return [*(["total_loss"] if "total_loss" in names else []), *parts, *metrics]


def plot_compared(logs: Mapping[str, Sequence[Mapping[str, float]]]) -> bytes | None:
    """The curves of several trainings over the iterations: a panel each loss and metric, a colour each training.

    Args:
        logs: lines of the training logs by name.

    Returns:
        PNG; None if no log has a loss or metric.
    """
    names = compared_names(logs)
    if not names:
        return None
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(max(3.4 * columns, 6.0), 2.5 * rows + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    last = max(max(_series(scalars, name)[0], default=0) for scalars in logs.values() for name in names)
    for panel in panels[len(names) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, names, strict=False):
        is_metric = name.endswith(FOLLOWED)
        for number, (training, scalars) in enumerate(logs.items()):
            style = {"marker": "o", "markersize": 3} if is_metric else {}
            panel.plot(
                *_series(scalars, name), color=f"C{number % 10}", linestyle=_LINES[number // 10 % len(_LINES)],
                linewidth=1.2, label=training, **style,
            )  # fmt: skip
        panel.set_title(_panel_title(name), fontsize="small")
        panel.set_xlim(0, 1.03 * last or 1.0)  # the same in all panels, those of a single evaluation too
        panel.set_ylim(0, 1.02 if is_metric else 1.08 * _settled(logs, name) or 1.0)
        panel.grid(True, alpha=0.3)
        panel.tick_params(labelsize="small")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", fontsize="small", ncols=2, frameon=False)
    figure.supxlabel("iteration", fontsize="small")
    return _png(figure)


def _panel_title(name: str) -> str:
    return "total loss" if name == "total_loss" else name.removeprefix("loss_")


def _settled(logs: Mapping[str, Sequence[Mapping[str, float]]], name: str) -> float:
    """Largest value after the first twentieth of each log; see ``plot_losses``."""
    series = [_series(scalars, name)[1] for scalars in logs.values()]
    return max((max(values[len(values) // 20 :]) for values in series if values), default=0.0)


def _series(scalars: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """(iterations, values) of the lines that have a finite value of that name."""
    points = [(line["iteration"], line[name]) for line in scalars if math.isfinite(line.get(name, math.nan))]
    return [x for x, _ in points], [y for _, y in points]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()
