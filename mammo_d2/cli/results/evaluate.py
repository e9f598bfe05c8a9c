"""The command ``evaluate``: arguments to a study, and the study to files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.core.files import make_folder
from mammo_d2.core.table_files import TABLE_SUFFIXES, ColumnNames
from mammo_d2.evaluation.files.box_tables import BOX_FIELDS, load_image_scores, score_fields
from mammo_d2.evaluation.files.case_files import CASE_FORMATS
from mammo_d2.evaluation.files.coco_files import GroundTruth, load_ground_truth
from mammo_d2.evaluation.files.detection_files import load_detections
from mammo_d2.evaluation.files.subgroup_columns import load_splits
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.matching import DISTANCE_KINDS, OVERLAP_KINDS
from mammo_d2.evaluation.metrics.detection.presets import PRESETS, Preset, get_preset
from mammo_d2.evaluation.metrics.scores.curves import NORMALIZATIONS
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.evaluation.study.figure_style import FIGURE_FORMATS
from mammo_d2.evaluation.study.run_study import run_study
from mammo_d2.evaluation.study.study import StudyOptions, System
from mammo_d2.evaluation.study.study_cases import write_study_cases
from mammo_d2.evaluation.study.study_outputs import console_text, write_study
from mammo_d2.evaluation.study.subgroups import SubgroupStudy, run_subgroups, subgroups_text, write_subgroups
from mammo_d2.report.viewer.viewed_files import viewed_results
from mammo_d2.report.viewer.viewer_block import Viewer
from mammo_d2.report.viewer.viewer_page import write_viewer_page

DESCRIPTION = """Evaluate result files of any detector or classifier against a COCO ground truth; no model is needed.

Detections: COCO results, a JSON list of {image_id, category_id, bbox [x, y, width, height], score}.
A table, too (CSV, .xlsx): image (id or file name), class, score, x, y, width, height; other names by --columns.
predictions.json of mammo-d2 predict, too, on the images of the ground truth or the files they were prepared from.
Image scores: image_scores.json of a run, or a table with image_id and a column per class; predictions.json, too.
Of several systems each is compared with the first: difference, confidence interval, p value, forest plot.

Examples (other.json and scores.csv are results of another program):
    mammo-d2 evaluate --ground-truth datasets/mine/annotations/test.json \\
        output/mine/inference/mine_test/coco_instances_results.json --preset luna16 --classes malignant
    mammo-d2 evaluate --ground-truth datasets/mine/annotations/test.json \\
        output/mine/inference/mine_test/coco_instances_results.json other.json --names mine other \\
        --output output/compare
    mammo-d2 evaluate --ground-truth datasets/mine/annotations/test.json --image-scores scores.csv \\
        --aggregate mean
"""


def build_parser() -> argparse.ArgumentParser:
    """The tool's arguments."""
    parser = make_parser(DESCRIPTION, "evaluate")
    parser.add_argument(
        "results", nargs="*", type=Path, help="COCO results, predictions.json, CSV or .xlsx, one per system"
    )
    parser.add_argument(
        "--columns", nargs="+", default=[], metavar="NAME=FIELD",
        help="columns of tables with names of their own, e.g. Befund=class; fields of results: "
        f"{', '.join(BOX_FIELDS)}; of image scores: image, score or a class",
    )  # fmt: skip
    parser.add_argument("--ground-truth", type=Path, required=True, help="COCO JSON of the images evaluated")
    parser.add_argument(
        "--image-scores",
        nargs="+",
        type=Path,
        default=[],
        help="image scores, JSON, CSV or .xlsx, one per system (in the same order)",
    )
    parser.add_argument("--names", nargs="+", default=[], help="names of the systems; default: the files' names")
    parser.add_argument("--output", type=Path, help="folder for JSON, CSV, tables and figures; default: console only")
    parser.add_argument("--figures", nargs="+", choices=FIGURE_FORMATS, default=["png"], help="formats of the figures")
    parser.add_argument(
        "--viewer", action="store_true", help="also write viewer.html to --output: the images with truth and boxes"
    )
    parser.add_argument(
        "--images", type=Path, metavar="FOLDER", help="of the images, for --viewer [images/ beside the ground truth's]"
    )
    parser.add_argument("--classes", nargs="+", default=[], help="categories to evaluate; default: all")
    parser.add_argument("--merge", default="", metavar="NAME", help="the one class that all of --classes become")
    parser.add_argument("--ignore", nargs="+", default=[], help="categories whose findings may be hit freely")

    rule = parser.add_argument_group("detection rule")
    rule.add_argument("--preset", choices=list(PRESETS), default="default", help="a published rule; see --list-presets")
    rule.add_argument("--list-presets", action=_ListPresets, help="print the rules with their sources and exit")
    rule.add_argument("--hit", choices=OVERLAP_KINDS + DISTANCE_KINDS, help="when a box hits a lesion")
    rule.add_argument("--threshold", type=float, help="overlap, pixels, millimetres or factor, by --hit")
    rule.add_argument("--matching", choices=("any", "best", "greedy", "hungarian"))
    rule.add_argument("--extra-hits", choices=("ignore", "fp"), help="more hits on a lesion already found")
    rule.add_argument("--fp-images", choices=("known", "all", "negative", "positive"), help="images of the FP rate")
    rule.add_argument("--recall-of", choices=("lesion", "image", "breast", "patient"))
    rule.add_argument("--interpolation", choices=("step", "linear"))
    rule.add_argument("--rates", type=float, nargs="+", help="false positives per image")

    cases = parser.add_argument_group("patients, breasts and images")
    cases.add_argument("--positive-classes", nargs="+", default=[], help="default: malignant, or all classes")
    cases.add_argument("--aggregate", choices=("max", "mean"), default="max", help="image scores of a case")
    cases.add_argument("--score-threshold", type=float, help="called positive above this score (default: 0.5)")
    cases.add_argument("--at-threshold", action="store_true", help="called positive at the threshold too (>=)")
    cases.add_argument("--pauc-normalization", choices=NORMALIZATIONS, default="jiang")

    output = parser.add_argument_group("per case (with --output)")
    output.add_argument(
        "--cases",
        choices=CASE_FORMATS,
        help="write which lesion was found at which score, what hit what, and the false positives; json: for a viewer",
    )
    output.add_argument("--count-at", type=float, nargs="+", default=[], metavar="SCORE", help="counts at these scores")
    output.add_argument(
        "--count-at-rate",
        type=float,
        nargs="+",
        metavar="RATE",
        help="counts at the threshold for these false positives per image (default: the preset's rates)",
    )

    subgroups = parser.add_argument_group("subgroups")
    subgroups.add_argument(
        "--by",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="metrics by density, view, laterality, vendor, lesion.pathology, lesion.size_mm:10,20, or any key of the "
        "images (numbers with cut points, age:50,60), of the annotations (lesion.KEY), or column of --by-table",
    )
    subgroups.add_argument("--by-table", type=Path, help="CSV or .xlsx with image_id or patient_id and further columns")
    subgroups.add_argument("--by-metrics", nargs="+", default=[], metavar="METRIC", help="names as in metrics.json")

    resampling = parser.add_argument_group("confidence intervals")
    resampling.add_argument("--bootstrap", type=int, default=1000, help="replicates over patients; 0: none")
    resampling.add_argument("--confidence", type=float, default=0.95)
    resampling.add_argument(
        "--interval", choices=("percentile", "beta"), default="percentile", help="beta: few positive patients"
    )
    resampling.add_argument("--seed", type=int, default=0)
    resampling.add_argument("--unstratified", action="store_true", help="draw positives and negatives together")
    resampling.add_argument("--one-threshold", action="store_true", help="AP at the first hit threshold only (sooner)")
    return parser


class _ListPresets(argparse.Action):
    def __init__(self, option_strings, dest, **keys) -> None:
        super().__init__(option_strings, dest, nargs=0, **keys)

    def __call__(self, parser, namespace, values, option_string=None) -> None:
        for preset in PRESETS.values():
            print(f"{preset.name}\n    {preset.source}\n    {preset}\n")
        parser.exit()


def preset_of(args: argparse.Namespace) -> Preset:
    """The preset with the options that were given replaced; its name then ends in "*"."""
    preset = get_preset(args.preset)
    hit = {"kind": args.hit, "threshold": args.threshold}
    rule = {
        "matching": args.matching,
        "extra_hits": args.extra_hits,
        "fp_images": args.fp_images,
        "recall_unit": args.recall_of,
        "interpolation": args.interpolation,
        "rates": None if args.rates is None else tuple(args.rates),
    }
    hit = {name: value for name, value in hit.items() if value is not None}
    rule = {name: value for name, value in rule.items() if value is not None}
    if not hit and not rule:
        return preset
    if "rates" in rule:
        rule["mean_rates"] = ()
    if args.hit and args.threshold is None and not _same_threshold(args.hit, preset.rule.hit.kind):
        raise ValueError(
            f"--hit {args.hit} needs --threshold: that of preset {preset.name}, {preset.rule.hit.threshold:g}, is for "
            f"{preset.rule.hit.kind}"
        )
    preset = replace(preset, script="")  # the challenge's own numbers are of its own rule
    changed = replace(preset.rule, hit=replace(preset.rule.hit, **hit), **rule)
    if preset.ap_rule is not preset.rule:
        return replace(preset, name=preset.name + "*", rule=changed)
    thresholds = (changed.hit.threshold,) if hit else preset.thresholds
    return replace(preset, name=preset.name + "*", rule=changed, ap_rule=changed, thresholds=thresholds)


def _same_threshold(kind: str, former: str) -> bool:
    """Whether a threshold of one kind of hit means the same for another; center_in_box has none."""
    return kind in (former, "center_in_box") or {kind, former} <= set(OVERLAP_KINDS)


def load_systems(args: argparse.Namespace, truth: GroundTruth) -> list[System]:
    """Read the result files, and say how many systems there are by the longer of the two lists of files.

    Raises:
        ValueError: no files, lists of different lengths, or names that do not fit them.
    """
    count = max(len(args.results), len(args.image_scores))
    if not count:
        raise ValueError("nothing to evaluate: name COCO results files, --image-scores, or both")
    if args.results and args.image_scores and len(args.results) != len(args.image_scores):
        raise ValueError(f"{len(args.results)} results files but {len(args.image_scores)} image score files")
    files = args.results or args.image_scores
    names = args.names or _names_of(files)
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"--names {' '.join(names)}: {count} different names are needed, one per system")
    systems = []
    columns = _column_names(args, truth)
    for number, name in enumerate(names):
        results, images = args.results[number : number + 1], args.image_scores[number : number + 1]
        detections: DetectionTable | None = None
        notes: dict[str, int] = {}
        if results:
            with _progress(f"read {results[0].name}", unit=" boxes", unit_scale=True) as bar:
                detections, notes = load_detections(results[0], truth, bar.update, columns)
        scores = load_image_scores(images[0], truth, columns) if images else None
        decisive = scores if detections is None or scores is not None else detections.scores
        if args.score_threshold is None and decisive is not None:
            if _are_percentages(decisive):
                file = (images or results)[0]
                print(
                    f"warning: {file}: scores up to {np.nanmax(decisive):g} are taken for percentages and divided by "
                    "100; --score-threshold with a value in their unit keeps them",
                    file=sys.stderr,
                )
                if scores is not None:
                    scores = scores / 100
                elif detections is not None:
                    detections = replace(detections, scores=detections.scores / 100)
                decisive = decisive / 100
            _check_probabilities(decisive, (images or results)[0])
        systems.append(System(name, detections, scores, notes))
    columns.check_found()
    return systems


def _column_names(args: argparse.Namespace, truth: GroundTruth) -> ColumnNames:
    """What --columns says of the tables among the files."""
    columns = ColumnNames.parse(args.columns)
    boxes, scores = (
        any(path.suffix.lower() in TABLE_SUFFIXES for path in files) for files in (args.results, args.image_scores)
    )
    if columns and not boxes and not scores:
        raise ValueError("--columns is for tables (.csv, .tsv, .xlsx), and no file is one; leave it out")
    columns.check_fields([*(BOX_FIELDS if boxes else ()), *(score_fields(truth.images.classes) if scores else ())])
    return columns


def _progress(what: str, **options: Any) -> tqdm:
    """A bar on a terminal, nothing elsewhere."""
    return tqdm(desc=what, disable=not sys.stderr.isatty(), **options)


def _score_threshold(args: argparse.Namespace) -> float:
    return 0.5 if args.score_threshold is None else args.score_threshold


def _are_percentages(scores: np.ndarray) -> bool:
    """Whether scores lie in 0 to 100, and most of those above 0 beyond 1: no probabilities with a slip."""
    known = scores[~np.isnan(scores)]
    if not len(known) or known.min() < 0 or not 1 < known.max() <= 100:
        return False
    return bool((known[known > 0] > 1).mean() > 0.5)


def _check_probabilities(scores: np.ndarray, path: Path) -> None:
    """Raise if the default threshold would decide about scores of another scale; NaN is no score."""
    outside = scores[(scores < 0) | (scores > 1)]
    if len(outside):
        raise ValueError(
            f"{path}: {len(outside)} score(s) are no probabilities, e.g. {outside[0]:g}: a threshold of 0.5 means "
            "nothing there; scale them to 0 to 1, or name --score-threshold in their unit"
        )


def _names_of(files: Sequence[Path]) -> list[str]:
    """File names, with as many parent folders as it takes to tell them apart."""
    for depth in range(1, 1 + max(len(file.resolve().parts) for file in files)):
        names = ["/".join(file.resolve().with_suffix("").parts[-depth:]) for file in files]
        if len(set(names)) == len(files):
            return names
    return [f"{file.stem} ({number})" for number, file in enumerate(files, start=1)]


def _subgroups(
    args: argparse.Namespace, truth: GroundTruth, systems: list[System], options: StudyOptions
) -> SubgroupStudy | None:
    if not args.by:
        if args.by_table or args.by_metrics:
            raise ValueError("--by-table and --by-metrics need --by, the columns of the subgroups")
        return None
    splits = load_splits(args.by, truth, args.by_table)
    with _progress("bootstrap of subgroups", total=args.bootstrap) as bar:
        return run_subgroups(truth, systems, options, splits, args.by_metrics, bar.update)


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    # Result files may stand behind options, too.
    args = build_parser().parse_intermixed_args(argv)
    truth = load_ground_truth(args.ground_truth, args.classes, args.ignore, args.merge)
    options = StudyOptions(
        preset=preset_of(args),
        scores=ScoreRule(_score_threshold(args), not args.at_threshold, normalization=args.pauc_normalization),
        positive_classes=tuple(args.positive_classes),
        aggregation=args.aggregate,
        plan=BootstrapPlan(args.bootstrap, args.seed, args.confidence, not args.unstratified),
        all_thresholds=not args.one_threshold,
        interval=args.interval,
    )
    wants_cases = bool(args.cases or args.count_at or args.count_at_rate)
    if wants_cases and args.output is None:
        raise ValueError("--cases, --count-at and --count-at-rate write files: name a folder with --output")
    systems = load_systems(args, truth)
    if args.viewer and args.output is None:
        raise ValueError("--viewer writes a file: name a folder with --output")
    viewed = viewed_results(truth, systems, options.preset.rule, args.images) if args.viewer else None
    if args.output is not None:
        make_folder(args.output, "--output")
    with _progress("bootstrap", total=args.bootstrap) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        study = run_study(truth, systems, options, advance)
    subgroups = _subgroups(args, truth, systems, options)
    rule = options.preset.rule
    paths = []
    if args.output is not None:
        paths = write_study(study, args.output, rule.rates, rule.recall_unit, args.figures)
    if wants_cases:
        paths += write_study_cases(
            truth, systems, rule, args.output, args.cases or "", args.count_at, args.count_at_rate
        )
    if subgroups is not None and args.output is not None:
        paths += write_subgroups(subgroups, args.output)
    if viewed is not None:
        layout = "compare" if len(systems) > 1 else "single"
        page = args.output / "viewer.html"
        paths.append(write_viewer_page(page, f"Results on {viewed.name}", Viewer([viewed], layout=layout)))
    print(console_text(study))
    if subgroups is not None:
        print("\n" + subgroups_text(subgroups))
    if paths:
        print("\nwritten: " + ", ".join(str(path) for path in paths))
    return 0
