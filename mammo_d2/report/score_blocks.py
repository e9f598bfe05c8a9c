"""Scores of the images of an evaluation: their distribution by truth, and a table of truth against call."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure as Drawing

from mammo_d2.engine.run_files.run_results import DatasetResult
from mammo_d2.evaluation.evaluators.registered import score_rule_from_config
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule
from mammo_d2.evaluation.metrics.tables import images_from_records
from mammo_d2.framework import CfgNode, MetadataCatalog
from mammo_d2.report.html import Block, Figure, Heading, Note, Table, Text
from mammo_d2.report.shown_images import evaluation_data
from mammo_d2.report.viewed_runs import scores_of_images

BINS = 25
# Truth → colour; distinguishable with red-green colour blindness.
_GROUPS = {"positive": "#d55e00", "negative": "#0072b2", "unknown": "0.45"}


@dataclass(frozen=True)
class ScoredImages:
    """Scores of N images for C classes, with their truth.

    Attributes:
        classes: C names.
        truth: (N, C) float64: 1, 0 or NaN where unknown.
        scores: (N, C) float64; a column of NaN of a class without scores.
        rule: when an image is called positive.
        words: what the scores are.
    """

    classes: Sequence[str]
    truth: np.ndarray
    scores: np.ndarray
    rule: ScoreRule
    words: str


def score_blocks(cfg: CfgNode, result: DatasetResult, records: Sequence[dict[str, Any]] | str) -> list[Block]:
    """Histograms of the image scores and the table of truth against call, of each class.

    The score of an image is the classifier's, or without one that of its best box.

    Args:
        cfg: the run's.
        result: of the evaluation.
        records: of the data set, or why there are none: then there is no block.
    """
    if isinstance(records, str):
        return []
    try:
        scored = scored_images(cfg, result, records)
    except (OSError, ValueError) as error:
        return [Note(f"No distribution of the scores: {error}")]
    if scored is None:
        return []
    rows = [[name, *row] for label, name in enumerate(scored.classes) for row in confusion_rows(scored, label)]
    call = f"score {'>' if scored.rule.strict else '≥'} {scored.rule.threshold:g}"
    columns = ["class", "truth", "called positive", "called negative", "images"]
    return [
        Heading("Scores of the images"),
        Text(f"{scored.words} Each histogram shows parts of the images of one truth, so that their areas are equal."),
        Figure(plot_histograms(scored), "Scores of positive, negative and unknown images.", plot=True),
        Table(columns, rows, f"Truth and call of the images, called positive at {call}"),
    ]


def scored_images(cfg: CfgNode, result: DatasetResult, records: Sequence[Mapping[str, Any]]) -> ScoredImages | None:
    """The image scores of an evaluation; None if it has neither image scores nor boxes.

    Raises:
        FileNotFoundError, ValueError: damaged files, or those of other images.
    """
    metadata = MetadataCatalog.get(result.name)
    classes = list(metadata.thing_classes)
    truth = images_from_records(records, classes).truth
    scores = None if result.image_scores is None else scores_of_images(result, records, classes)
    if scores is not None:
        known = ~np.isnan(scores).all(axis=0)
        named = [name for name, has in zip(classes, known, strict=True) if has]
        rule = score_rule_from_config(cfg.TEST.IMAGE)
        return ScoredImages(named, truth[:, known], scores[:, known], rule, "Image scores of the model.")
    if not result.predictions:
        return None
    detections = evaluation_data(
        records, classes, result.predictions, metadata.thing_dataset_id_to_contiguous_id
    ).detections
    best = np.full((len(records), len(classes)), min(0.0, float(detections.scores.min())))
    np.maximum.at(best, (detections.image, detections.label), detections.scores)
    words = "Score of an image: that of its best box; 0 (the lowest, if scores are negative) without any box."
    return ScoredImages(classes, truth, best, score_rule_from_config(cfg.TEST.PATIENT), words)


def confusion_rows(scored: ScoredImages, label: int) -> list[list[Any]]:
    """Rows (truth, called positive, called negative, images) of a class, for each truth that any image has.

    Args:
        scored: the images.
        label: the class's column.
    """
    rows: list[list[Any]] = []
    for group, chosen in _by_truth(scored.truth[:, label]).items():
        scores = scored.scores[chosen, label]
        called = scores > scored.rule.threshold if scored.rule.strict else scores >= scored.rule.threshold
        if chosen.any():
            rows.append([group, int(called.sum()), int((~called).sum()), int(chosen.sum())])
    return rows


def histograms(scored: ScoredImages, label: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Edges of ``BINS`` equal bins, and by truth the part of the images in each (sum 1), of a class.

    The bins go from 0 to 1, or to the highest score where all scores are small, as those of ranked regions are.
    """
    scores = scored.scores[:, label]
    top = float(scores.max(initial=0.0))
    lowest = min(0.0, float(scores.min(initial=0.0)))
    edges = np.linspace(lowest, top if 0 < top < 0.1 else max(1.0, top), BINS + 1)
    found = {}
    for group, chosen in _by_truth(scored.truth[:, label]).items():
        if chosen.any():
            found[group] = np.histogram(scores[chosen], edges)[0] / chosen.sum()
    return edges, found


def plot_histograms(scored: ScoredImages) -> bytes:
    """A panel of ``histograms`` for each class, the threshold as a line; PNG."""
    columns = min(3, len(scored.classes))
    rows = -(-len(scored.classes) // columns)
    figure = Drawing(figsize=(max(3.6 * columns, 5.0), 2.6 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel in panels[len(scored.classes) :]:
        panel.set_visible(False)
    for label, name in enumerate(scored.classes):
        panel = panels[label]
        edges, found = histograms(scored, label)
        for group, parts in found.items():
            count = int(_by_truth(scored.truth[:, label])[group].sum())
            if group != "unknown":
                panel.stairs(parts, edges, color=_GROUPS[group], fill=True, alpha=0.25)
            panel.stairs(parts, edges, color=_GROUPS[group], linewidth=1.3, label=f"{group} ({count})")
        if scored.rule.threshold <= edges[-1]:
            panel.axvline(scored.rule.threshold, color="black", linewidth=1, linestyle=":")
        panel.set_title(name, fontsize="small")
        panel.set_xlabel("score", fontsize="small")
        panel.set_ylabel("part of the images", fontsize="small")
        panel.tick_params(labelsize="small")
        panel.legend(fontsize="small", frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _by_truth(truth: np.ndarray) -> dict[str, np.ndarray]:
    """(N,) bool for each group of ``_GROUPS``."""
    return {"positive": truth == 1, "negative": truth == 0, "unknown": np.isnan(truth)}
