"""The command ``average-scores``: image scores of several runs to one file and a table of areas under the curve."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tabulate import tabulate

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.core.files import read_json, write_json
from mammo_d2.evaluation.files.coco_files import GroundTruth, load_ground_truth
from mammo_d2.evaluation.files.image_scores import (
    ImageScores,
    average_scores,
    find_image_scores,
    read_image_scores,
    top_runs,
)
from mammo_d2.evaluation.files.reader_scores import mix_with_reader, read_reader
from mammo_d2.evaluation.files.results import IMAGE_SCORES_FILE, ResultsError
from mammo_d2.evaluation.metrics.scores.delong import AucInterval, delong_interval
from mammo_d2.evaluation.metrics.scores.levels import level_cases

DESCRIPTION = """Average the image scores of several runs, with a reader's if there is one, and evaluate them.

Written to --output:
  image_scores.json               the mean of the runs, in the form that a run writes
  image_scores_with_reader.json   with --reader: weight * reader + (1 - weight) * mean
  auc.json                        the printed table: every run, their mean, the reader, the mixture

A reader's CSV has columns that name what was read (image_id; exam_id and laterality for a breast; exam_id; patient_id)
and one per class with probabilities from 0 to 1. mammo-d2 evaluate --image-scores takes the files written here.

Examples (runs of configs/gmic; a search by docs/search.md; reader.csv: image_id and a probability per class):
    mammo-d2 average-scores output/gmic output/gmic_loc --ground-truth datasets/mine/annotations/test.json
    mammo-d2 average-scores --search output/search_gmic --top 5 \\
        --ground-truth datasets/mine/annotations/test.json --output output/top5
    mammo-d2 average-scores output/gmic --ground-truth datasets/mine/annotations/test.json \\
        --reader reader.csv --reader-weight 0.5
"""

AUC_LEVELS = ("image", "breast", "patient")


@dataclass(frozen=True)
class AucRow:
    """The areas of one system for one class: by level the interval, and the number of positive and negative cases."""

    system: str
    name: str
    areas: dict[str, AucInterval]
    cases: dict[str, tuple[int, int]]


def build_parser() -> argparse.ArgumentParser:
    """The tool's arguments."""
    parser = make_parser(DESCRIPTION, "average-scores")
    parser.add_argument("runs", nargs="*", metavar="RUN", help="output folders of runs, or image_scores.json files")
    parser.add_argument("--search", type=Path, help="folder of a search: its best trials are averaged")
    parser.add_argument("--top", type=int, default=5, help="how many of them")
    parser.add_argument("--dataset", default="", help="data set, for runs that were evaluated on several")
    parser.add_argument("--ground-truth", type=Path, required=True, help="COCO JSON of the images scored")
    parser.add_argument(
        "--classes", nargs="+", default=[], help="categories to evaluate; default: those scored, or all with --merge"
    )
    parser.add_argument(
        "--merge",
        default="",
        metavar="NAME",
        help="class of runs with DATASETS.MERGE_CATEGORIES; it is all of --classes",
    )
    parser.add_argument("--reader", type=Path, help="CSV of a reader's probabilities")
    parser.add_argument("--reader-weight", type=float, default=0.5, help="the reader's part of the mixture")
    parser.add_argument("--aggregate", choices=("mean", "max"), default="mean", help="images of a breast or patient")
    parser.add_argument("--confidence", type=float, default=0.95, help="of the intervals")
    parser.add_argument("--output", type=Path, help="folder for the files; default: console only")
    return parser


def auc_rows(truth: GroundTruth, system: str, values: np.ndarray, aggregation: str, confidence: float) -> list[AucRow]:
    """Areas of each class at each level, intervals by DeLong with Obuchowski's correction for patients.

    Args:
        truth: the ground truth.
        system: name for the table.
        values: (N, C) scores in the ground truth's order, NaN where there is none.
        aggregation: "mean" or "max" over the images of a breast or patient.
        confidence: of the intervals.
    """
    rows = []
    for label, name in enumerate(truth.images.classes):
        areas, counts = {}, {}
        for level in AUC_LEVELS:
            cases = level_cases(truth.images, truth.images.truth[:, label], values[:, label], level, aggregation)
            areas[level] = delong_interval(cases.truth, cases.scores, cases.patient, confidence)
            counts[level] = (int(cases.truth.sum()), int((cases.truth == 0).sum()))
        rows.append(AucRow(system, name, areas, counts))
    return rows


def table_text(rows: Sequence[AucRow]) -> str:
    """The areas as a table, then why what is missing is missing."""
    shown = [[row.system, row.name, *(_area(row.areas[level]) for level in AUC_LEVELS)] for row in rows]
    numbers = {
        f"{row.name}, {level}: {p} positive, {n} negative" for row in rows for level, (p, n) in row.cases.items()
    }
    reasons = {f"{row.system}, {row.name}: {area.reason}" for row in rows for area in row.areas.values() if area.reason}
    return "\n".join([tabulate(shown, ("AUC", "class", *AUC_LEVELS)), "", *sorted(numbers), *sorted(reasons)])


def _area(area: AucInterval) -> str:
    if np.isnan(area.auc):
        return "n/a"
    return f"{area.auc:.3f}" if np.isnan(area.low) else f"{area.auc:.3f} ({area.low:.3f}, {area.high:.3f})"


def run(argv: list[str]) -> int:
    """Run the tool; see ``--help``."""
    args = build_parser().parse_args(argv)
    if not 0 < args.confidence < 1:
        raise ValueError(f"--confidence {args.confidence:g} must lie between 0 and 1, e.g. 0.95")
    places = [*args.runs, *(top_runs(args.search, args.top) if args.search else [])]
    members = [read_image_scores(find_image_scores(place, args.dataset)) for place in places]
    mean = average_scores(members)
    # A merged class is no category of the file: by default all categories were merged.
    truth = load_ground_truth(args.ground_truth, args.classes or (() if args.merge else mean.classes), (), args.merge)
    ids, classes = truth.images.ids, truth.images.classes
    systems = {scores.source: scores for scores in (*members, mean)}
    values = {name: scores.arranged(ids, classes, truth.path) for name, scores in systems.items()}
    mixed: ImageScores | None = None
    if args.reader:
        reader = read_reader(args.reader, read_json(args.ground_truth, error=ResultsError)["images"], mean)
        mixed = mix_with_reader(mean, reader, args.reader_weight)
        values["reader"] = replace(mean, values=reader).arranged(ids, classes, truth.path)
        values[f"{mean.source} + {args.reader_weight:g} reader"] = mixed.arranged(ids, classes, truth.path)
    rows = []
    for name, scores in values.items():
        rows += auc_rows(truth, name, scores, args.aggregate, args.confidence)
    paths = _write(args, rows, mean, mixed) if args.output else []
    print(table_text(rows))
    print(f"{args.confidence:.0%} intervals by DeLong, patients as clusters; cases: {args.aggregate} over their images")
    if paths:
        print("written: " + ", ".join(map(str, paths)))
    return 0


def _write(
    args: argparse.Namespace, rows: Sequence[AucRow], mean: ImageScores, mixed: ImageScores | None
) -> list[Path]:
    paths = [write_json(args.output / IMAGE_SCORES_FILE, mean.entries(), indent=None, nan_as_null=True)]
    if mixed is not None:
        paths.append(
            write_json(args.output / "image_scores_with_reader.json", mixed.entries(), indent=None, nan_as_null=True)
        )
    systems: dict[str, dict] = {}
    for row in rows:
        systems.setdefault(row.system, {})[row.name] = {
            level: {**vars(area), "num_positive": row.cases[level][0], "num_negative": row.cases[level][1]}
            for level, area in row.areas.items()
        }
    options = {"aggregate": args.aggregate, "confidence": args.confidence, "reader": str(args.reader or "")}
    if mixed is not None:
        options["reader_weight"] = args.reader_weight
    paths.append(
        write_json(args.output / "auc.json", {"options": options, "systems": systems}, indent=2, nan_as_null=True)
    )
    return paths
