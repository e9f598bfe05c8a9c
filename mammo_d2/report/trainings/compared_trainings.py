"""The trainings of several runs on one page: their curves in common panels, and where each of them stands."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mammo_d2 import __version__
from mammo_d2.engine.run_files.run_results import read_scalars
from mammo_d2.framework import CfgNode
from mammo_d2.jobs.job import build_job
from mammo_d2.report.html import Block, Figure, Heading, Section, Table, Text, write_report
from mammo_d2.report.run_blocks import best_evaluation
from mammo_d2.report.trainings.training_plot import plot_compared


@dataclass(frozen=True)
class LoggedRun:
    """A run, finished or not: its configuration and its OUTPUT_DIR."""

    cfg: CfgNode
    folder: Path


def compared_training_blocks(runs: Sequence[LoggedRun]) -> list[Block]:
    """Curves and a table of the trainings of several runs; trainings of the same title are drawn together.

    Args:
        runs: each with its log as far as it is; a run without any log is named.
    """
    names = run_names([run.folder for run in runs])
    logs: dict[str, dict[str, list[dict[str, float]]]] = {}
    rows, without = [], []
    for name, run in zip(names, runs, strict=True):
        trainings = build_job(run.cfg).report_parts(run.folder).trainings
        found = [(training, read_scalars(training.folder)) for training in trainings]
        if not any(scalars for _, scalars in found):
            without.append(name)
        for training, scalars in found:
            if not scalars:
                continue
            logs.setdefault(training.title, {})[name] = scalars
            losses = [line["total_loss"] for line in scalars if "total_loss" in line]
            best = best_evaluation(training.cfg, scalars)
            of_best = "" if best is None else f"{training.cfg.TEST.BEST_METRIC} {best[0]:.3f} after {best[1]}"
            logged = int(scalars[-1]["iteration"]) + 1
            row = [name, training.title, logged, training.cfg.SOLVER.MAX_ITER, losses[-1] if losses else None, of_best]
            rows.append(row)
    blocks: list[Block] = []
    for title, of_title in logs.items():
        picture = plot_compared(of_title)
        if picture is not None:
            words = "Each point is the median of the steps before it; the scales leave out the first twentieth."
            blocks += [*([Heading(title)] if len(logs) > 1 else []), Figure(picture, words, plot=True)]
    if rows:
        columns = ["run", "training", "iterations logged", "of", "last total loss", "best evaluation"]
        blocks.append(Table(columns, rows))
    if without:
        blocks.append(Text(f"Without a training log: {', '.join(without)}."))
    return blocks


def write_training_page(path: str | os.PathLike, runs: Sequence[LoggedRun]) -> Path:
    """Write the page of several runs' trainings; data sets and evaluations are not needed.

    Args:
        path: the HTML file.
        runs: see ``compared_training_blocks``.

    Raises:
        FileNotFoundError, ValueError: a folder is not a run's, or its log is damaged.
    """
    sections = [Section("Trainings side by side", compared_training_blocks(runs))]
    return write_report(path, f"mammo_d2: {len(runs)} trainings", sections, f"mammo_d2 {__version__}")


def run_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the folders' paths that differ, e.g. "a/run" and "b/run".

    Raises:
        ValueError: a folder is named twice.
    """
    parts = [folder.resolve().parts for folder in folders]
    if len(set(parts)) < len(parts):
        twice = next(folder for folder, own in zip(folders, parts, strict=True) if parts.count(own) > 1)
        raise ValueError(f"{twice}: this run is named twice; name each run once")
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]
