"""The HTML report of a training or evaluation run, made from the files in its output folder."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from statistics import median
from typing import Any

import mammo_d2
from mammo_d2.data.catalog import load_records, register_datasets
from mammo_d2.evaluation.evaluators import froc_rule_from_config
from mammo_d2.export.gallery import choose_examples, evaluation_data, gallery_blocks
from mammo_d2.export.localization import localization_pictures
from mammo_d2.export.metric_tables import evaluation_blocks, headline_numbers
from mammo_d2.export.pictures import encode_png, save_picture
from mammo_d2.export.report import (
    DISCLAIMER,
    Block,
    Details,
    Figure,
    Figures,
    Heading,
    Note,
    Section,
    Stats,
    Table,
    Text,
    write_report,
)
from mammo_d2.export.run_files import DatasetResult, Run, read_run
from mammo_d2.export.training_plot import plot_evaluations, plot_losses
from mammo_d2.framework import ENGINE, CfgNode, MetadataCatalog

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

_CURVES = {"froc": "FROC curve", "roc": "ROC curve"}
# The gallery shows what is accepted at about this many false positives per image.
_GALLERY_RATE = 1.0


def write_run_report(
    cfg: CfgNode,
    folder: str | os.PathLike,
    output: str | os.PathLike | None = None,
    pictures: str | os.PathLike | None = None,
) -> Path:
    """Write the report of a finished run.

    Data sets that can no longer be found cost the report its data set table and gallery, and a note says so.

    Args:
        cfg: the run's configuration (``config.yaml``, with overrides such as a data set root that has moved).
        folder: the run's OUTPUT_DIR.
        output: the HTML file; by default ``report.html`` in ``folder``.
        pictures: folder for the pictures of weak localisation as PNG files too, one sub-folder per data set.

    Returns:
        The HTML file.

    Raises:
        FileNotFoundError, ValueError: the folder is not a run's, or one of its files is damaged.
    """
    run = read_run(folder)
    register_datasets(cfg)
    made = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    subtitle = f"{run.folder.resolve()}; mammo_d2 {mammo_d2.__version__}, {ENGINE} engine; report of {made}"
    title = f"mammo_d2 run: {run.folder.resolve().name}"
    sections = run_sections(cfg, run, None if pictures is None else Path(pictures))
    return write_report(output or run.folder / "report.html", title, sections, subtitle)


def run_sections(cfg: CfgNode, run: Run, pictures: Path | None = None) -> list[Section]:
    """The sections of a run's report; the data sets must be registered. For ``pictures`` see ``write_run_report``."""
    summary: list[Block] = [Note(DISCLAIMER)]
    if not run.datasets:
        summary.append(Text("The run has no evaluation: there is nothing in its inference folder."))
    for result in run.datasets:
        summary += [Text(f"On {result.name}:"), Stats(headline_numbers(result))]
    records = {name: _records(cfg, name) for name in dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])}
    sections = [
        Section("Summary", summary),
        Section("Data", _data_blocks(cfg, records)),
        Section("Training", _training_blocks(run)),
    ]
    for result in run.datasets:
        sections.append(Section(f"Results on {result.name}", [*evaluation_blocks(result), *_curve_blocks(result)]))
        if result.predictions is not None:
            blocks = _example_blocks(cfg, result, records.get(result.name) or _records(cfg, result.name))
            sections.append(Section(f"Examples from {result.name}", blocks))
        if result.regions is not None:
            blocks = _localization_blocks(cfg, result, records.get(result.name) or _records(cfg, result.name), pictures)
            sections.append(Section(f"Weak localisation on {result.name}", blocks))
    sections.append(Section("Configuration", _config_blocks(cfg, run)))
    return sections


def _records(cfg: CfgNode, name: str) -> list[dict[str, Any]] | str:
    """Records of a data set, or why there are none."""
    try:
        return load_records(cfg, name)
    except (OSError, ValueError) as error:
        return str(error)


def _data_blocks(cfg: CfgNode, records: Mapping[str, list[dict[str, Any]] | str]) -> list[Block]:
    rows, notes = [], []
    classes: list[str] = []
    for name, found in records.items():
        if isinstance(found, str):
            notes.append(Note(f"{name} could not be loaded: {found}"))
            continue
        classes = classes or list(MetadataCatalog.get(name).thing_classes)
        boxes = Counter(entry["category_id"] for record in found for entry in record["annotations"])
        positive = sum(1 for record in found if record["annotations"])
        patients = {record["patient_id"] for record in found if record.get("patient_id") is not None}
        uses = [use for use, names in (("train", cfg.DATASETS.TRAIN), ("test", cfg.DATASETS.TEST)) if name in names]
        counts = [len(found), positive, len(found) - positive, len(patients) or None]
        rows.append([name, ", ".join(uses), *counts, *(boxes[label] for label in range(len(classes)))])
    if not rows:
        return [Text("No data set is at hand."), *notes]
    columns = ["data set", "used for", "images", "positive", "negative", "patients", *(f"{c} boxes" for c in classes)]
    explanation = "An image is positive if it has a box of a detection class; all others are negative and are kept."
    return [Table(columns, rows), Text(explanation), *notes]


def _training_blocks(run: Run) -> list[Block]:
    curve = plot_losses(run.scalars)
    if curve is None:
        return [Text("There is no training log: the run only evaluated, or it was ended before the first log line.")]
    last = run.scalars[-1]["iteration"] + 1
    words = f"{last} iterations are logged."
    times = [line["time"] for line in run.scalars if math.isfinite(line.get("time", math.nan))]
    if times:
        words += f" A step took {median(times):.2g} s (median), data loading included."
    final = next(line for line in reversed(run.scalars) if "total_loss" in line)
    names = ["total_loss", *sorted(name for name in final if name.startswith("loss_"))]
    losses = Table(["at the end", *(_loss_name(name) for name in names)], [["loss", *(final[name] for name in names)]])
    blocks: list[Block] = [
        Text(words),
        Figure(
            curve,
            "Losses and learning rate over the iterations. Each point is the median of the steps before it.",
            True,
        ),
        losses,
    ]
    evaluations = plot_evaluations(run.scalars)
    if evaluations is not None:
        blocks.append(Figure(evaluations, "Evaluations during the training.", True))
    return blocks


def _loss_name(name: str) -> str:
    return "total" if name == "total_loss" else name.removeprefix("loss_")


def _curve_blocks(result: DatasetResult) -> list[Block]:
    figures = [Figure(png, _CURVES.get(name, name), plot=True) for name, png in result.pictures.items()]
    return [Figures(figures)] if figures else []


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


def _localization_blocks(
    cfg: CfgNode, result: DatasetResult, records: list[dict[str, Any]] | str, folder: Path | None
) -> list[Block]:
    if isinstance(records, str):
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
        return [Note(f"No pictures: {error}")]
    words = (
        f"The best {top} regions of each class with their scores, over images spread evenly over the data set whatever "
        f"was predicted on them; lesions in green. A region hits a lesion of its class if {rule}."
    )
    if result.maps is not None:
        words += " Beside them the response of each class: where it is pale, the model sees little."
    blocks: list[Block] = [Text(words)]
    for group in dict.fromkeys(one.group for one in pictures):
        shown = [one for one in pictures if one.group == group]
        blocks += [Heading(f"Images with {group}" if group in data.images.classes else f"Images {group}")]
        blocks += [Figures([Figure(encode_png(one.picture), one.caption) for one in shown])]
    if folder is not None:
        for one in pictures:
            save_picture(folder / result.name / one.name, one.picture)
    return [*blocks, *(Note(problem) for problem in problems)]


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


def _config_blocks(cfg: CfgNode, run: Run) -> list[Block]:
    rows = [[words, key, _value(cfg, key)] for key, words in _CONFIG_LINES]
    rows = [[words, key, _plain(value)] for words, key, value in rows if value is not None]
    return [Table(["what", "key", "value"], rows), Details("The complete configuration", run.config_text)]


def _value(cfg: CfgNode, key: str) -> Any:
    """Value of a dotted key; None where the config has no such key."""
    node: Any = cfg
    for part in key.split("."):
        if part not in node:
            return None
        node = node[part]
    return node


def _plain(value: Any) -> str:
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(str(item) for item in value)
    return str(value) if value != "" else "(none)"
