"""The HTML report of a training or evaluation run, made from the files in its output folder.

The run's job tells which trainings and evaluations there are; the files of an evaluation decide its sections.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mammo_d2 import __version__
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.engine.run_files.run_folder import CONFIG_FILE, config_file
from mammo_d2.engine.run_files.run_results import DatasetResult, read_evaluations
from mammo_d2.evaluation.evaluators.lesion_evaluator import LesionEvaluator
from mammo_d2.evaluation.evaluators.region_evaluator import RegionEvaluator
from mammo_d2.evaluation.files.results import REGIONS_FILE
from mammo_d2.framework import ENGINE, CfgNode
from mammo_d2.jobs.job import build_job
from mammo_d2.report.html import DISCLAIMER, Block, Note, Section, Stats, Text, write_report
from mammo_d2.report.metric_tables import evaluation_blocks, headline_numbers
from mammo_d2.report.result_blocks import lesion_blocks, localization_blocks
from mammo_d2.report.run_blocks import (
    NO_PICTURES,
    PictureFolder,
    config_blocks,
    config_table,
    curve_blocks,
    data_blocks,
    load_all,
    load_or_reason,
    training_blocks,
)
from mammo_d2.report.score_blocks import score_blocks
from mammo_d2.report.trainings.compared_trainings import LoggedRun, compared_training_blocks
from mammo_d2.report.viewed_runs import beside_each_other, run_name, viewed_datasets
from mammo_d2.report.viewer.viewed_data import ViewedDataset
from mammo_d2.report.viewer.viewer_block import MAX_IMAGES, Viewer


@dataclass(frozen=True)
class ViewerOptions:
    """What the viewer of a report shows.

    Attributes:
        images: most images; 0: no viewer.
        side: longest side of an image, in pixels; None: as they are.
        beside: configs and folders of other runs on the same images.
    """

    images: int = MAX_IMAGES
    side: int | None = None
    beside: Sequence[tuple[CfgNode, Path]] = ()


def write_run_report(
    cfg: CfgNode,
    folder: str | os.PathLike,
    output: str | os.PathLike | None = None,
    pictures: PictureFolder = NO_PICTURES,
    shown: ViewerOptions | None = None,
) -> Path:
    """Write the report of a finished run, with the parts that its job names.

    If a data set can no longer be found, its tables and pictures are left out and a note says so.

    Args:
        cfg: the run's configuration (``config.yaml``, with overrides such as a data set root that has moved).
        folder: the run's OUTPUT_DIR.
        output: the HTML file; by default ``report.html`` in ``folder``.
        pictures: where the pictures of weak localisation or lesions are also written, a sub-folder per data set.
        shown: what the viewer shows; None: the run's images.

    Returns:
        The HTML file.

    Raises:
        FileNotFoundError, ValueError: the folder is not a run's, or one of its files is damaged.
    """
    folder = Path(folder)
    text = Path(config_file(folder)).read_text(encoding="utf-8")
    sections, viewer = run_sections(cfg, folder, text, pictures, shown or ViewerOptions())
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    subtitle = f"{folder.resolve()}; mammo_d2 {__version__}, {ENGINE} engine; report of {now}"
    title, program = f"mammo_d2 run: {folder.resolve().name}", None if viewer is None else viewer.program
    return write_report(output or folder / "report.html", title, sections, subtitle, program)


def run_sections(
    cfg: CfgNode,
    folder: Path,
    config_text: str,
    pictures: PictureFolder = NO_PICTURES,
    shown: ViewerOptions = ViewerOptions(),
) -> tuple[list[Section], Viewer | None]:
    """The sections of a run's report, and the viewer if there is anything to see.

    Arguments as of ``write_run_report``, and the text of ``config.yaml``.
    """
    parts = build_job(cfg).report_parts(folder)
    register_datasets(cfg)
    results = [(part.name, result) for part in parts.evaluations for result in read_evaluations(part.folder)]
    summary: list[Block] = [Note(DISCLAIMER)]
    if not results:
        summary.append(Text(parts.unevaluated[0].upper() + parts.unevaluated[1:] + parts.unevaluated_hint))
        pictures.none_of(str(folder), parts.unevaluated)
    for name, result in results:
        summary += [Text(f"With {name}, on {result.name}:" if name else f"On {result.name}:")]
        summary += [Stats(headline_numbers(result))]
    records = load_all(cfg, parts.uses)
    evaluated = {result.name: records.get(result.name) or load_or_reason(cfg, result.name) for _, result in results}
    sections = [Section("Summary", summary)]
    viewer, seen = _viewer(cfg, folder, results, evaluated, shown)
    if seen:
        sections.append(Section("Images", seen))
    sections.append(Section("Data", data_blocks(parts.uses, records)))
    sections += [Section(training.title, training_blocks(training)) for training in parts.trainings]
    if shown.beside:
        compared = compared_training_blocks([LoggedRun(cfg, folder), *(LoggedRun(*other) for other in shown.beside)])
        sections.append(Section("Trainings side by side", compared))
    again = f"mammo-d2 train --config-file {folder / CONFIG_FILE} --eval-only"
    again = " ".join([again, *parts.evaluate_again])
    for name, result in results:
        sections += _result_sections(cfg, name, result, evaluated[result.name], pictures, again)
    blocks = config_blocks(cfg, config_text, parts.keys)
    if parts.stage_configs:
        blocks = [config_table(parts.stage_configs, parts.stage_keys), *blocks]
    return [*sections, Section("Configuration", blocks)], viewer


def _viewer(
    cfg: CfgNode,
    folder: Path,
    results: Sequence[tuple[str, DatasetResult]],
    records: Mapping[str, Sequence[dict[str, Any]] | str],
    shown: ViewerOptions,
) -> tuple[Viewer | None, list[Block]]:
    """The viewer of the evaluated data sets, if there is anything to show, and the blocks of its section."""
    if not shown.images:
        return None, []
    datasets, notes = viewed_datasets(cfg, results, records)
    if shown.beside:
        datasets = beside_each_other(run_name(folder), datasets, [_of_run(*other) for other in shown.beside])
    if not datasets:
        return None, notes
    viewer = Viewer(datasets, shown.images, shown.side, "compare" if shown.beside else "single")
    return viewer, [viewer.block, *notes]


def _of_run(cfg: CfgNode, folder: Path) -> tuple[str, list[ViewedDataset]]:
    """Name and evaluated data sets of another run.

    Raises:
        ValueError: it has no evaluation, or its data sets cannot be found.
    """
    register_datasets(cfg)
    parts = build_job(cfg).report_parts(folder)
    results = [(part.name, result) for part in parts.evaluations for result in read_evaluations(part.folder)]
    records = {result.name: load_or_reason(cfg, result.name) for _, result in results}
    datasets, notes = viewed_datasets(cfg, results, records)
    if not datasets:
        why = " ".join(note.text for note in notes if isinstance(note, Note)) or parts.unevaluated
        raise ValueError(f"{folder}: nothing to show beside another run: {why}")
    return run_name(folder), datasets


def _result_sections(
    cfg: CfgNode,
    name: str,
    result: DatasetResult,
    records: Sequence[dict[str, Any]] | str,
    pictures: PictureFolder,
    again: str,
) -> list[Section]:
    """The sections of an evaluation, depending on its files.

    Args:
        name: tells it from others on the data set; may be empty.
        records: of the data set, or why there are none.
        again: the command that repeats the evaluation.
    """
    suffix, place = f" with {name}" if name else "", result.name
    if name:
        place += "/" + name.replace(" + ", "_")
    blocks = [*evaluation_blocks(result), *curve_blocks(result), *score_blocks(cfg, result, records)]
    sections = [Section(f"Results on {result.name}{suffix}", blocks)]
    if result.regions is not None:
        blocks = localization_blocks(cfg, result, records, pictures, place)
        sections.append(Section(f"Weak localisation on {result.name}{suffix}", blocks))
    if result.lesions is not None or LesionEvaluator.task in result.tasks:
        blocks = lesion_blocks(cfg, result, records, pictures, place, again)
        sections.append(Section(f"Lesions of {result.name}{suffix}", blocks))
    elif result.regions is None:
        evaluators = list(dict.fromkeys([*cfg.TEST.EVALUATORS, RegionEvaluator.task]))
        reason = f"there is no {REGIONS_FILE}, which the evaluator {RegionEvaluator.task!r} writes. To evaluate again"
        pictures.none_of(place, f'{reason} with it: {again} TEST.EVALUATORS "{evaluators}"')
    return sections
