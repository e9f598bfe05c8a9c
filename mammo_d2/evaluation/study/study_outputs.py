"""Outputs of a study: console table, JSON, CSV, LaTeX table, curves and forest plots."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.core.files import write_bytes_atomic, write_json
from mammo_d2.evaluation.study.paper_tables import difference_cells, write_tables
from mammo_d2.evaluation.study.plots import ForestRow, plot_forest, plot_froc, plot_roc
from mammo_d2.evaluation.study.study import LEVELS, MetricValue, PairReport, Study, SystemReport

_PATIENT_KEYS = ("auc", "pauc_ratio", "sensitivity", "specificity", "accuracy", "ap")


def headline_metrics(study: Study) -> list[str]:
    """The metrics of the console and LaTeX tables: FROC sensitivities, AP, and the patient's decisions."""
    names: list[str] = []
    for system in study.systems:
        for name in system.metrics:
            task, _, key = name.rpartition("/")
            shown = (
                (task.startswith("froc/") and (key.startswith("sens@") or key == "mean_sens"))
                or task.startswith(("ap/", "challenge/"))
                or name in ("coco/AP", "coco/AP50", "coco/AP75")
                or (task == "patient" and (key in _PATIENT_KEYS or key.startswith("spec@")))
                or (task in LEVELS and key == "auc")
            )
            if shown and name not in names:
                names.append(name)
    return names


def _number(value: float, digits: int = 3) -> str:
    return "n/a" if np.isnan(value) else f"{value:.{digits}f}"


def _cell(metric: MetricValue | None) -> str:
    if metric is None:
        return ""
    if np.isnan(metric.interval.low):
        return _number(metric.value)
    return f"{_number(metric.value)} ({_number(metric.interval.low)}, {_number(metric.interval.high)})"


def console_text(study: Study) -> str:
    """Options, a table of the headline metrics, differences, and what was left out or is undefined."""
    names = headline_metrics(study)
    lines = [*study.options]
    lines += sorted({option for system in study.systems for option in system.options})
    header = ["metric", *(system.name for system in study.systems)]
    rows = [[name, *(_cell(system.metrics.get(name)) for system in study.systems)] for name in names]
    lines += ["", tabulate(rows, header)]
    for pair in study.pairs:
        rows = [
            [name, f"{d.difference:+.3f} ({d.low:+.3f}, {d.high:+.3f})", _number(d.p)]
            for name, d in pair.differences.items()
            if name in names
        ]
        rows += [
            [f"{level}/auc (DeLong)", f"{t.difference:+.3f} ({t.low:+.3f}, {t.high:+.3f})", _number(t.p)]
            for level, t in pair.auc.items()
        ]
        lines += ["", tabulate(rows, [f"{pair.second} - {pair.first}", "difference", "p"])]
    for system in study.systems:
        for note, count in system.notes.items():
            lines.append(f"{system.name}: {note}: {count}")
        for reason in sorted({m.reason for m in system.metrics.values() if m.reason}):
            which = [name for name, metric in system.metrics.items() if metric.reason == reason]
            lines.append(f"{system.name}: {', '.join(which[:3])}{' …' if len(which) > 3 else ''}: {reason}")
    return "\n".join(lines)


def _system_json(system: SystemReport) -> dict:
    metrics = {
        name: {
            "value": m.value,
            "low": m.interval.low,
            "high": m.interval.high,
            **({"undefined_replicates": m.interval.undefined} if m.interval.undefined else {}),
            **({"reason": m.reason} if m.reason else {}),
        }
        for name, m in system.metrics.items()
    }
    return {
        "metrics": metrics,
        "auc_delong": {level: asdict(interval) for level, interval in system.auc.items()},
        "patient_wilson": system.wilson,
        "notes": dict(system.notes),
        "options": system.options,
    }


def write_metrics_json(study: Study, path: str | os.PathLike) -> Path:
    """Everything in the study as one JSON file."""
    return write_json(
        path,
        {
            "options": study.options,
            "systems": {system.name: _system_json(system) for system in study.systems},
            "comparisons": [
                {
                    "first": pair.first,
                    "second": pair.second,
                    "bootstrap": {name: asdict(d) for name, d in pair.differences.items()},
                    "auc_delong": {level: asdict(t) for level, t in pair.auc.items()},
                }
                for pair in study.pairs
            ],
        },
        indent=2,
        nan_as_null=True,
    )


def write_metrics_csv(study: Study, path: str | os.PathLike) -> Path:
    """All metrics in long form: system, metric, value, low, high, reason; undefined numbers are empty."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["system", "metric", "value", "low", "high", "reason"])
    for system in study.systems:
        for name, m in system.metrics.items():
            numbers = ["" if np.isnan(v) else repr(float(v)) for v in (m.value, m.interval.low, m.interval.high)]
            writer.writerow([system.name, name, *numbers, m.reason])
    write_bytes_atomic(path, text.getvalue().encode("utf-8"))
    return Path(path)


def _latex(text: str) -> str:
    """Text with LaTeX's special characters escaped."""
    for character in "\\&%$#_{}":
        text = text.replace(character, "\\textbackslash{}" if character == "\\" else "\\" + character)
    return text.replace("~", "\\textasciitilde{}").replace("^", "\\textasciicircum{}")


def latex_table(study: Study) -> str:
    """The headline metrics as a booktabs table: metrics down, systems across, intervals in small type."""
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{tabular}{l" + "c" * len(study.systems) + "}",
        "\\toprule",
        " & ".join(["metric", *(_latex(system.name) for system in study.systems)]) + " \\\\",
        "\\midrule",
    ]
    for name in headline_metrics(study):
        cells = [_latex(name)]
        for system in study.systems:
            m = system.metrics.get(name)
            if m is None or np.isnan(m.value):
                cells.append("--")
            elif np.isnan(m.interval.low):
                cells.append(_number(m.value))
            else:
                cells.append(f"{_number(m.value)} {{\\small({_number(m.interval.low)}--{_number(m.interval.high)})}}")
        lines.append(" & ".join(cells) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", *(f"% {option}" for option in study.options)]
    return "\n".join(lines) + "\n"


def _write_forest(pair: PairReport, names: Sequence[str], path: Path) -> Path:
    rows = [
        ForestRow(name, d.difference, d.low, d.high, f"{d.difference:+.3f}  p = {_number(d.p)}")
        for name, d in pair.differences.items()
        if name in names
    ]
    return plot_forest(rows, path, f"{pair.second} against {pair.first}", f"difference ({pair.second} - {pair.first})")


def comparison_table(study: Study) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the table for a paper: headline metrics of all systems, differences and p values.

    An AUC's difference and p value are DeLong's where that test was made, others the bootstrap's.
    """
    header = ["metric", *(system.name for system in study.systems)]
    for pair in study.pairs:
        header += [f"{pair.second} - {pair.first}", "p"]
    rows = []
    for name in headline_metrics(study):
        row = [name, *(_cell(system.metrics.get(name)) for system in study.systems)]
        for pair in study.pairs:
            level, _, key = name.rpartition("/")
            test = pair.auc.get(level) if key == "auc" else None
            row += difference_cells(test or pair.differences.get(name))
        rows.append(row)
    return header, rows


def write_study(
    study: Study,
    folder: str | os.PathLike,
    rates: Sequence[float],
    recall_of: str,
    formats: Sequence[str] = ("png",),
) -> list[Path]:
    """Write metrics.json, metrics.csv, table.tex, paper.md and .tex, and the figures froc_<class>, roc_<level> and
    forest_<n> in each format.

    Args:
        study: the study.
        folder: made if missing.
        rates: range of the FROC plots' x axis.
        recall_of: what FROC sensitivity counts.
        formats: of ``FIGURE_FORMATS``.

    Returns:
        the paths written.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [write_metrics_json(study, folder / "metrics.json"), write_metrics_csv(study, folder / "metrics.csv")]
    write_bytes_atomic(folder / "table.tex", latex_table(study).encode("utf-8"))
    paths.append(folder / "table.tex")
    paths += write_tables(folder, "paper", *comparison_table(study), study.options)
    for name in dict.fromkeys(name for system in study.systems for name in system.froc_curves):
        curves = [system.froc_curves[name] for system in study.systems if name in system.froc_curves]
        safe = "".join(c if c.isalnum() or c in "-_" else "_" for c in name)
        if folder / f"froc_{safe}.{formats[0]}" in paths:  # of classes such as "a b" and "a_b"
            safe = f"{safe}_{len(paths)}"
        for kind in formats:
            paths.append(plot_froc(curves, folder / f"froc_{safe}.{kind}", f"FROC, {name}", rates, recall_of))
    for level in LEVELS:
        curves = [system.roc_curves[level] for system in study.systems]
        paths += [plot_roc(curves, folder / f"roc_{level}.{kind}", f"ROC, {level}s") for kind in formats]
    names = headline_metrics(study)
    for number, pair in enumerate(study.pairs, start=1):
        paths += [_write_forest(pair, names, folder / f"forest_{number}.{kind}") for kind in formats]
    return paths
