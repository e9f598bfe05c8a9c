"""What the report of any run shows: its data sets, its training, curves and pictures, its configuration."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from mammo_d2.core.image_truth import image_truth, joined_truth
from mammo_d2.data.format.catalog import load_records
from mammo_d2.engine.run_files.run_folder import BEST_WEIGHTS
from mammo_d2.engine.run_files.run_results import DatasetResult, read_scalars
from mammo_d2.framework import CfgNode, MetadataCatalog
from mammo_d2.jobs.report_parts import ReportedTraining
from mammo_d2.pictures.drawing import NamedPicture, encode_png, save_picture
from mammo_d2.report.html import Block, Details, Figure, Figures, Heading, Note, Table, Text
from mammo_d2.report.trainings.training_plot import plot_evaluations, plot_losses

# Pictures wider than this, in pixels, have a row of their own.
WIDE = 800

_OF_BOXES = ("froc", "froc_classified")
_CURVES = {
    "froc": "FROC curve",
    "roc": "ROC curve",
    "tnr_fnr": "Benign lesions sorted out against malignant ones missed",
}


def load_or_reason(cfg: CfgNode, name: str) -> Sequence[dict[str, Any]] | str:
    """Records of a data set, or why there are none."""
    try:
        return load_records(cfg, name)
    except (OSError, ValueError) as error:
        return str(error)


def load_all(cfg: CfgNode, uses: Mapping[str, Sequence[str]]) -> dict[str, Sequence[dict[str, Any]] | str]:
    """``load_or_reason`` of data sets by what they are used for; by name."""
    names = dict.fromkeys(name for used in uses.values() for name in used)
    return {name: load_or_reason(cfg, name) for name in names}


def data_blocks(
    uses: Mapping[str, Sequence[str]], records: Mapping[str, Sequence[dict[str, Any]] | str]
) -> list[Block]:
    """A table of the data sets.

    Args:
        uses: names of data sets by what they are used for.
        records: of each, or why there are none.
    """
    rows, notes = [], []
    classes: list[str] = []
    for name, found in records.items():
        if isinstance(found, str):
            notes.append(Note(f"{name} could not be loaded: {found}"))
            continue
        classes = classes or list(MetadataCatalog.get(name).thing_classes)
        boxes = Counter(entry["category_id"] for record in found for entry in record["annotations"])
        positive = sum(1 for record in found if record["annotations"])
        truth = [joined_truth(image_truth(record, classes)) for record in found if not record["annotations"]]
        patients = {record["patient_id"] for record in found if record.get("patient_id") is not None}
        counts = [len(found), positive, truth.count(1), truth.count(0), truth.count(None), len(patients) or None]
        used = ", ".join(use for use in uses if name in uses[use])
        rows.append([name, used, *counts, *(boxes[label] for label in range(len(classes)))])
    if not rows:
        return [Text("No data set is at hand."), *notes]
    images = ["images", "with box", "positive without box", "negative", "unknown"]
    columns = ["data set", "used for", *images, "patients", *(f"{c} boxes" for c in classes)]
    explanation = (
        "With box: of a detection class. The others by their labels: positive if one of the classes is shown, negative "
        "if it is known that none is, else unknown."
    )
    return [Table(columns, rows), Text(explanation), *notes]


def training_blocks(training: ReportedTraining) -> list[Block]:
    """Losses, learning rate and evaluations of a training as curves, the losses at its end, the best evaluation."""
    scalars = read_scalars(training.folder)
    if not training.given_weights:
        return [*_log_blocks(scalars), *_best_blocks(training.cfg, scalars)]
    given = Text(f"It was trained in another job: {training.given_weights}.")
    if not scalars:
        return [given, Text("Its log is not at hand.")]
    return [given, *_log_blocks(scalars), *_best_blocks(training.cfg, scalars)]


def best_evaluation(cfg: CfgNode, scalars: Sequence[Mapping[str, float]]) -> tuple[float, int] | None:
    """Value of TEST.BEST_METRIC in the evaluation that chose the best weights, and the iterations until then.

    None if the training does not keep them, or has not been evaluated yet.
    """
    metric = cfg.TEST.BEST_METRIC
    values = [(line[metric], int(line["iteration"]) + 1) for line in scalars if metric in line]
    values = [(value, iteration) for value, iteration in values if math.isfinite(value)]
    if cfg.TEST.EVAL_PERIOD <= 0 or not values:
        return None
    # Of equal ones the first is kept.
    pick = max if cfg.TEST.BEST_MODE == "max" else min
    return pick(values, key=lambda pair: pair[0])


def _best_blocks(cfg: CfgNode, scalars: Sequence[Mapping[str, float]]) -> list[Block]:
    """The evaluation that chose the best weights; nothing if the training does not keep them."""
    best = best_evaluation(cfg, scalars)
    if best is None:
        return []
    return [Text(f"Best {cfg.TEST.BEST_METRIC}: {best[0]:.3f} after {best[1]} iterations, kept as {BEST_WEIGHTS}.")]


def _log_blocks(scalars: Sequence[Mapping[str, float]]) -> list[Block]:
    curve = plot_losses(scalars)
    if curve is None:
        return [Text("There is no training log: the run only evaluated, or it ended before the first log line.")]
    last = int(scalars[-1]["iteration"]) + 1
    words = f"{last} iterations are logged."
    times = [line["time"] for line in scalars if math.isfinite(line.get("time", math.nan))]
    if times:
        words += f" A step took {median(times):.2g} s (median), data loading included."
    final = next(line for line in reversed(scalars) if "total_loss" in line)
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
    evaluations = plot_evaluations(scalars)
    if evaluations is not None:
        blocks.append(Figure(evaluations, "Evaluations during the training.", True))
    return blocks


def _loss_name(name: str) -> str:
    return "total" if name == "total_loss" else name.removeprefix("loss_")


def curve_blocks(result: DatasetResult) -> list[Block]:
    """The curves drawn by the evaluators; a FROC curve without any box shows nothing and is left out."""
    pictures = {name: png for name, png in result.pictures.items() if result.predictions != [] or name not in _OF_BOXES}
    figures = [Figure(png, _CURVES.get(name, name), plot=True) for name, png in pictures.items()]
    return [Figures(figures)] if figures else []


@dataclass(frozen=True)
class PictureFolder:
    """Where pictures of a report are also written as PNG files.

    Attributes:
        path: the folder; None: nowhere.
        tell: called with a line on what was written, or why not; never without a folder.
    """

    path: Path | None = None
    tell: Callable[[str], Any] = print

    def write(self, subfolder: str, pictures: Sequence[NamedPicture], problems: Sequence[str]) -> None:
        """Write pictures by their names, and tell the problems of the missing ones."""
        if self.path is None:
            return
        for named in pictures:
            save_picture(self.path / subfolder / named.name, named.picture)
        self.tell(f"{self.path / subfolder}: {len(pictures)} pictures")
        for problem in problems:
            self.tell(problem)

    def none_of(self, what: str, reason: str) -> None:
        """Tell why there are no pictures of something."""
        if self.path is not None:
            self.tell(f"no pictures of {what}: {reason}")


NO_PICTURES = PictureFolder()


def picture_blocks(pictures: Sequence[NamedPicture], titles: Mapping[str, str]) -> list[Block]:
    """Pictures, in order, under a heading for each group, with the groups' titles."""
    blocks: list[Block] = []
    for group in groups_of(pictures):
        blocks.append(Heading(titles[group]))
        shown = [named for named in pictures if named.group == group]
        figures = [Figure(encode_png(named.picture), named.caption) for named in shown]
        # Pictures of several panels are unreadable at half the page's width.
        wide = max(named.picture.shape[1] for named in shown) > WIDE
        blocks += figures if wide else [Figures(figures)]
    return blocks


def groups_of(pictures: Sequence[NamedPicture]) -> list[str]:
    """Groups of the pictures, in order."""
    return list(dict.fromkeys(named.group for named in pictures))


def config_blocks(cfg: CfgNode, config_text: str, lines: Sequence[tuple[str, str]]) -> list[Block]:
    """A table of the keys of ``lines`` (see ``config_table``), and the whole configuration."""
    return [config_table({"value": cfg}, lines), Details("The complete configuration", config_text)]


def config_table(configs: Mapping[str, CfgNode], lines: Sequence[tuple[str, str]]) -> Table:
    """Values of some keys, as far as there are such keys.

    Args:
        configs: by heading of their column.
        lines: (key, what it is) each.
    """
    rows = []
    for key, words in lines:
        values = [_value(cfg, key) for cfg in configs.values()]
        if any(value is not None for value in values):
            rows.append([words, key, *(_plain(value) for value in values)])
    return Table(["what", "key", *configs], rows)


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
