"""The HTML report of a training or evaluation run, made from the files in its output folder."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from mammo_d2 import __version__
from mammo_d2.data.format.catalog import register_datasets
from mammo_d2.engine.run_folder import CONFIG_FILE, FINAL_WEIGHTS
from mammo_d2.engine.run_results import DatasetResult, Run, read_run
from mammo_d2.evaluation.evaluators.region_evaluator import RegionEvaluator
from mammo_d2.evaluation.evaluators.registered import froc_rule_from_config
from mammo_d2.evaluation.files.results import REGIONS_FILE
from mammo_d2.framework import ENGINE, CfgNode, MetadataCatalog
from mammo_d2.report.gallery import choose_examples, evaluation_data, gallery_blocks
from mammo_d2.report.html import DISCLAIMER, Block, Note, Section, Stats, Text, write_report
from mammo_d2.report.localization import localization_pictures
from mammo_d2.report.metric_tables import evaluation_blocks, headline_numbers
from mammo_d2.report.run_blocks import (
    NO_PICTURES,
    PictureFolder,
    config_blocks,
    curve_blocks,
    data_blocks,
    groups_of,
    load_all,
    load_or_reason,
    picture_blocks,
    training_blocks,
)

SectionMaker = Callable[[CfgNode, Run, PictureFolder], list[Section]]

# Config keys worth a line of their own, with what they are.
_CONFIG_LINES = (
    ("MODEL.META_ARCHITECTURE", "meta-architecture"),
    ("MODEL.BACKBONE.NAME", "backbone"),
    ("MODEL.RESNETS.DEPTH", "ResNet depth"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "proposal generator"),
    ("MODEL.RPN.NEGATIVE_IMAGES", "negative images in the RPN"),
    ("MODEL.ROI_HEADS.NAME", "ROI heads"),
    ("MODEL.ROI_HEADS.SIMILARITY_WEIGHT", "weight of the similarity loss"),
    ("MODEL.WEIGHTS", "initial weights"),
    ("DATASETS.CATEGORIES", "detection classes"),
    ("INPUT.SIZE", "network input (height, width)"),
    ("INPUT.INTENSITY", "intensity"),
    ("DATALOADER.SAMPLER_TRAIN", "training sampler"),
    ("SOLVER.OPTIMIZER", "optimizer"),
    ("SOLVER.BASE_LR", "base learning rate"),
    ("SOLVER.IMS_PER_BATCH", "images per batch"),
    ("SOLVER.MAX_ITER", "iterations"),
    ("SEED", "seed"),
)

# The gallery shows what is accepted at about this many false positives per image.
_GALLERY_RATE = 1.0


def write_run_report(
    cfg: CfgNode,
    folder: str | os.PathLike,
    output: str | os.PathLike | None = None,
    pictures: PictureFolder = NO_PICTURES,
    make_sections: SectionMaker | None = None,
) -> Path:
    """Write the report of a finished run.

    Data sets that can no longer be found cost the report its data set table and gallery, and a note says so.

    Args:
        cfg: the run's configuration (``config.yaml``, with overrides such as a data set root that has moved).
        folder: the run's OUTPUT_DIR.
        output: the HTML file; by default ``report.html`` in ``folder``.
        pictures: where the pictures of weak localisation or lesions are also written, a sub-folder per data set.
        make_sections: called with ``cfg``, the run and ``pictures``; by default ``run_sections``. The data sets are
            registered by then.

    Returns:
        The HTML file.

    Raises:
        FileNotFoundError, ValueError: the folder is not a run's, or one of its files is damaged.
    """
    run = read_run(folder)
    register_datasets(cfg)
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    subtitle = f"{run.folder.resolve()}; mammo_d2 {__version__}, {ENGINE} engine; report of {made}"
    title = f"mammo_d2 run: {run.folder.resolve().name}"
    sections = (make_sections or run_sections)(cfg, run, pictures)
    return write_report(output or run.folder / "report.html", title, sections, subtitle)


def run_sections(cfg: CfgNode, run: Run, pictures: PictureFolder = NO_PICTURES) -> list[Section]:
    """The sections of a run's report; the data sets must be registered. For ``pictures`` see ``write_run_report``."""
    summary: list[Block] = [Note(DISCLAIMER)]
    if not run.datasets:
        summary.append(Text("The run has no evaluation: there is nothing in its inference folder."))
        pictures.none_of(str(run.folder), "the run has no evaluation")
    for result in run.datasets:
        summary += [Text(f"On {result.name}:"), Stats(headline_numbers(result))]
    uses = {"train": cfg.DATASETS.TRAIN, "test": cfg.DATASETS.TEST}
    records = load_all(cfg, uses)
    sections = [
        Section("Summary", summary),
        Section("Data", data_blocks(uses, records)),
        Section("Training", training_blocks(run.scalars)),
    ]
    for result in run.datasets:
        sections.append(Section(f"Results on {result.name}", [*evaluation_blocks(result), *curve_blocks(result)]))
        if result.predictions is not None:
            blocks = _example_blocks(cfg, result, records.get(result.name) or load_or_reason(cfg, result.name))
            sections.append(Section(f"Examples from {result.name}", blocks))
        if result.regions is not None:
            blocks = _localization_blocks(
                cfg, result, records.get(result.name) or load_or_reason(cfg, result.name), pictures
            )
            sections.append(Section(f"Weak localisation on {result.name}", blocks))
        else:
            pictures.none_of(result.name, _without_regions(cfg, run))
    sections.append(Section("Configuration", config_blocks(cfg, run.config_text, _CONFIG_LINES)))
    return sections


def _example_blocks(cfg: CfgNode, result: DatasetResult, records: list[dict[str, Any]] | str) -> list[Block]:
    if isinstance(records, str):
        return [Note(f"No examples: {records}")]
    metadata = MetadataCatalog.get(result.name)
    classes, class_of = metadata.thing_classes, metadata.thing_dataset_id_to_contiguous_id
    rule = froc_rule_from_config(cfg).hit
    chosen = [_operating_point(result, name, cfg.TEST.PATIENT.THRESHOLD) for name in classes]
    thresholds = [threshold for threshold, _ in chosen]
    try:
        data = evaluation_data(records, classes, result.predictions or [], class_of)
        examples = choose_examples(data, rule, thresholds)
    except ValueError as error:
        return [Note(f"No examples: {error}")]
    accepted = ", ".join(
        f"{name} {threshold:.3g} ({why})" for name, (threshold, why) in zip(classes, chosen, strict=True)
    )
    words = (
        "Truth in green, predictions in orange with their score. A lesion counts as found if a box of its class hits "
        f"it ({rule}) with at least the score {accepted}. Boxes of lower scores are drawn only where the picture is "
        "about them."
    )
    return [Text(words), *gallery_blocks(records, data, examples, thresholds)]


def _without_regions(cfg: CfgNode, run: Run) -> str:
    """Why there is no weak localisation, and the command that makes it."""
    weights = run.folder / FINAL_WEIGHTS
    evaluators = list(dict.fromkeys([*cfg.TEST.EVALUATORS, RegionEvaluator.task]))
    return (
        f"there is no {REGIONS_FILE}, which the evaluator {RegionEvaluator.task!r} writes. To evaluate again with it: "
        f"tools/train_net.py --config-file {run.folder / CONFIG_FILE} --eval-only "
        f'MODEL.WEIGHTS {weights if weights.is_file() else cfg.MODEL.WEIGHTS} TEST.EVALUATORS "{evaluators}"'
    )


def _localization_blocks(
    cfg: CfgNode, result: DatasetResult, records: list[dict[str, Any]] | str, folder: PictureFolder
) -> list[Block]:
    if isinstance(records, str):
        folder.none_of(result.name, records)
        return [Note(f"No pictures: {records}")]
    metadata = MetadataCatalog.get(result.name)
    rule, top = froc_rule_from_config(cfg).hit, cfg.TEST.REGIONS.TOP
    try:
        data = evaluation_data(
            records, metadata.thing_classes, result.regions or [], metadata.thing_dataset_id_to_contiguous_id
        )
        pictures, problems = localization_pictures(
            records, data, rule, result.maps, top=top, limit=cfg.TEST.REGIONS.PICTURES
        )
    except ValueError as error:
        folder.none_of(result.name, str(error))
        return [Note(f"No pictures: {error}")]
    words = (
        f"The best {top} regions of each class with their scores, over images spread evenly over the data set whatever "
        f"was predicted on them; lesions in green. A region hits a lesion of its class if {rule}."
    )
    if result.maps is not None:
        words += " Beside them the response of each class: where it is pale, the model sees little."
    titles = {
        group: f"Images {'with ' if group in data.images.classes else ''}{group}" for group in groups_of(pictures)
    }
    folder.write(result.name, pictures, problems)
    return [Text(words), *picture_blocks(pictures, titles), *(Note(problem) for problem in problems)]


def _operating_point(result: DatasetResult, name: str, default: float) -> tuple[float, str]:
    """Lowest accepted score of a class at the reported rate nearest to ``_GALLERY_RATE`` at which any box is accepted,
    and why this one."""
    numbers = result.tasks["froc"].numbers if "froc" in result.tasks else {}
    start = f"{name}/threshold@"
    at_rate = {float(key.removeprefix(start)): value for key, value in numbers.items() if key.startswith(start)}
    usable = [rate for rate, value in at_rate.items() if math.isfinite(value)]
    if not usable:
        return default, "TEST.PATIENT.THRESHOLD"
    rate = min(usable, key=lambda rate: abs(rate - _GALLERY_RATE))
    return at_rate[rate], f"the threshold at {rate:g} false positives per image"
