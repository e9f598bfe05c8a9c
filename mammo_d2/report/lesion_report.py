"""The report of the lesion classifier's job: both trainings, numbers and pictures of lesions, the configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mammo_d2.engine.run_results import DatasetResult, LesionStage, Run, read_lesion_stage
from mammo_d2.evaluation.files.results import LESION_SCORES_FILE
from mammo_d2.framework import CfgNode
from mammo_d2.jobs.lesion.lesion_stages import CONTEXT_PREFIX, PATCH_FOLDER
from mammo_d2.report.html import DISCLAIMER, Block, Note, Section, Stats, Text
from mammo_d2.report.lesion_pictures import MAX_WINDOWS, lesion_pictures
from mammo_d2.report.metric_tables import evaluation_blocks, headline_numbers
from mammo_d2.report.run_blocks import (
    NO_PICTURES,
    PictureFolder,
    config_blocks,
    config_table,
    curve_blocks,
    data_blocks,
    load_all,
    load_or_reason,
    picture_blocks,
    training_blocks,
)

_CONFIG_LINES = (
    ("MODEL.META_ARCHITECTURE", "meta-architecture"),
    ("MODEL.LESION.NETWORK", "patch network"),
    ("MODEL.LESION.NETWORK_WEIGHTS", "its initial weights"),
    ("MODEL.LESION.PATCH_WEIGHTS", "patch network of another job"),
    ("MODEL.LESION.MAPS", "maps of the aggregation network, last run"),
    ("MODEL.LESION.MAP_SIZE", "cells of a map (rows, columns)"),
    ("MODEL.LESION.CONTEXT_CONFIG", "context network"),
    ("MODEL.LESION.CONTEXT_WEIGHTS", "its weights"),
    ("MODEL.LESION.WINDOW_SIDES", "sides of a window, in pixels"),
    ("MODEL.LESION.PATCH_SIZE", "resized to"),
    ("MODEL.LESION.WINDOWS", "windows of a lesion"),
    ("MODEL.LESION.EPOCH", "malignant, benign, outside and negative patches of an epoch"),
    ("MODEL.LESION.STORED_EPOCHS", "epochs of stored embeddings"),
    ("DATASETS.LABEL_LEVEL", "level of labels"),
    ("INPUT.INTENSITY", "intensity"),
    ("SEED", "seed"),
)
# Keys that the trainings may have different values of.
_STAGE_LINES = (
    ("SOLVER.OPTIMIZER", "optimizer"),
    ("SOLVER.BASE_LR", "base learning rate"),
    ("SOLVER.LR_SCHEDULER_NAME", "learning rate schedule"),
    ("SOLVER.WEIGHT_DECAY", "weight decay"),
    ("SOLVER.IMS_PER_BATCH", "patches per batch"),
    ("SOLVER.MAX_ITER", "iterations"),
    ("TEST.EVAL_PERIOD", "iterations between evaluations"),
    ("TEST.EARLY_STOP_PATIENCE", "evaluations without a better one until the stop"),
)


def lesion_sections(cfg: CfgNode, run: Run, pictures: PictureFolder = NO_PICTURES) -> list[Section]:
    """The sections of the report of a job of tools/train_lesion.py; see ``write_run_report``."""
    trainings = _training_configs(cfg)
    contexts = [read_lesion_stage(path) for path in sorted(run.folder.glob(f"{CONTEXT_PREFIX}*")) if path.is_dir()]
    results = [(_maps(stage), result) for stage in contexts for result in stage.datasets]
    summary: list[Block] = [Note(DISCLAIMER)]
    if not results:
        summary.append(
            Text("No aggregation network has been evaluated; tools/train_lesion.py --resume goes on with the job.")
        )
        pictures.none_of(str(run.folder), "no aggregation network has been evaluated")
    for maps, result in results:
        summary += [Text(f"With {maps}, on {result.name}:"), Stats(headline_numbers(result))]
    tests = tuple(cfg.MODEL.LESION.FINAL_TEST) or tuple(cfg.DATASETS.TEST)
    choosing = [name for name in cfg.DATASETS.TEST if name not in tests]
    uses = {"train": cfg.DATASETS.TRAIN, "choosing the weights": choosing, "test": tests}
    records = load_all(cfg, uses)
    sections = [
        Section("Summary", summary),
        Section("Data", data_blocks(uses, records)),
        Section("Training of the patch network", _patch_blocks(trainings["patch network"], run.folder)),
    ]
    for stage in contexts:
        title = f"Training of the aggregation network with {_maps(stage)}"
        sections.append(Section(title, _training_blocks(trainings["aggregation network"], stage)))
    for maps, result in results:
        blocks = [*evaluation_blocks(result), *curve_blocks(result)]
        sections.append(Section(f"Results on {result.name} with {maps}", blocks))
        known = records.get(result.name) or load_or_reason(cfg, result.name)
        found = _lesion_blocks(cfg, result, known, pictures, f"{result.name}/{maps.replace(' + ', '_')}")
        sections.append(Section(f"Lesions of {result.name} with {maps}", found))
    blocks = [config_table(trainings, _STAGE_LINES), *config_blocks(cfg, run.config_text, _CONFIG_LINES)]
    sections.append(Section("Configuration", blocks))
    return sections


def _training_configs(cfg: CfgNode) -> dict[str, CfgNode]:
    """What the two trainings were made with."""
    configs = {}
    for name, overrides in (("patch network", "PATCH_STAGE"), ("aggregation network", "CONTEXT_STAGE")):
        configs[name] = cfg.clone()
        configs[name].defrost()
        configs[name].merge_from_list(list(cfg.MODEL.LESION[overrides]))
    return configs


def _maps(stage: LesionStage) -> str:
    """The combination of maps in words, e.g. "embedding + saliency"."""
    return stage.folder.name.removeprefix(CONTEXT_PREFIX).replace("_", " + ")


def _patch_blocks(cfg: CfgNode, folder: Path) -> list[Block]:
    given = cfg.MODEL.LESION.PATCH_WEIGHTS
    if not given:
        return _training_blocks(cfg, read_lesion_stage(folder / PATCH_FOLDER))
    stage = read_lesion_stage(Path(given).parent)
    words: list[Block] = [Text(f"It was trained in another job: {given}.")]
    return [*words, *_training_blocks(cfg, stage)] if stage.scalars else [*words, Text("Its log is not at hand.")]


def _training_blocks(cfg: CfgNode, stage: LesionStage) -> list[Block]:
    blocks, metric = training_blocks(stage.scalars), cfg.TEST.BEST_METRIC
    values = [(line[metric], int(line["iteration"]) + 1) for line in stage.scalars if metric in line]
    values = [(value, iteration) for value, iteration in values if math.isfinite(value)]
    if values:
        # Of equal ones the first is kept.
        pick = max if cfg.TEST.BEST_MODE == "max" else min
        value, iteration = pick(values, key=lambda pair: pair[0])
        blocks.append(Text(f"Best {metric}: {value:.3f} after {iteration} iterations, kept as model_best.pth."))
    return blocks


def _lesion_blocks(
    cfg: CfgNode, result: DatasetResult, records: list[dict[str, Any]] | str, folder: PictureFolder, name: str
) -> list[Block]:
    try:
        if result.lesions is None:
            again = f"tools/train_lesion.py --eval-only DATASETS.TEST \"['{result.name}']\""
            raise ValueError(f"there is no {LESION_SCORES_FILE}; {again} writes it")
        if isinstance(records, str):
            raise ValueError(records)
        pictures, problems = lesion_pictures(records, result.lesions, cfg.TEST.LESION.PICTURES)
    except ValueError as error:
        folder.none_of(name, str(error))
        return [Note(f"No pictures: {error}")]
    words = (
        "Malignant lesions, then benign ones, each from the highest malignancy to the lowest, evenly spread over all "
        "that there are. A picture is of one view; the numbers are about a lesion's mean over its views. The lesion is "
        f"framed in green. At most {MAX_WINDOWS} of its windows are drawn, from the least malignant to the most."
    )
    titles = {"malignant": "Malignant lesions", "benign": "Benign lesions"}
    folder.write(name, pictures, problems)
    return [Text(words), *picture_blocks(pictures, titles), *(Note(problem) for problem in problems)]
