"""The command ``stats``: calibration, differences, reader studies, clinical numbers and sample sizes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.core.files import make_folder, read_json, write_json
from mammo_d2.evaluation.files.box_tables import load_image_scores
from mammo_d2.evaluation.files.coco_files import GroundTruth, load_ground_truth
from mammo_d2.evaluation.files.results import ResultsError
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.calibration.recalibration import SCALINGS, Recalibration, fit_recalibration
from mammo_d2.evaluation.metrics.comparison.intervals import INTERVALS
from mammo_d2.evaluation.metrics.comparison.sample_size import pairs_for_sensitivity, patients_for_auc
from mammo_d2.evaluation.metrics.detection.presets import PRESETS, get_preset
from mammo_d2.evaluation.metrics.readers.multi_reader import METHODS, dorfman_berbaum_metz, obuchowski_rockette
from mammo_d2.evaluation.metrics.readers.reader_figures import READER_FIGURES, reader_figures
from mammo_d2.evaluation.metrics.readers.standalone import standalone_against_readers
from mammo_d2.evaluation.statistics.calibration_report import (
    calibration_report,
    calibration_text,
    write_calibration,
)
from mammo_d2.evaluation.statistics.clinical_report import (
    ClinicalOptions,
    clinical_report,
    clinical_text,
    write_clinical,
)
from mammo_d2.evaluation.statistics.difference_report import (
    METRIC_NAMES,
    DifferenceOptions,
    check_metric,
    difference_report,
    difference_text,
    is_detection_metric,
    write_difference,
)
from mammo_d2.evaluation.statistics.reader_report import reader_text, write_readers
from mammo_d2.evaluation.statistics.reader_tables import read_reader_study
from mammo_d2.evaluation.statistics.scored_cases import (
    CaseRule,
    Resampling,
    ScoredSystem,
    load_system,
    resampling_of,
)
from mammo_d2.evaluation.study.figure_style import FIGURE_FORMATS
from mammo_d2.evaluation.study.study import LEVELS

DESCRIPTION = """Statistics that a reader study, a journal or a regulator asks for; docs/statistics.md explains them.

  calibration   are the scores probabilities? Brier score, ECE, slope, reliability diagram; Platt or temperature scaling
  difference    two systems on the same patients: intervals, p values, non-inferiority, McNemar, patients needed
  readers       multi-reader multi-case studies: ROC, AFROC, wAFROC; a standalone system against readers
  clinical      recall rate and cancers found per 1,000 at a sensitivity, decision curve, reclassification
  power         how many patients a planned comparison takes

Examples (scores and results are those of mammo-d2 evaluate; ratings.csv: treatment, reader, case, truth, rating):
    mammo-d2 stats calibration scores.csv --ground-truth datasets/mine/annotations/test.json \\
        --fit-scores val_scores.csv --fit-ground-truth datasets/mine/annotations/val.json --output output/calibration
    mammo-d2 stats difference old.json new.json --ground-truth datasets/mine/annotations/test.json \\
        --metrics froc@0.5 froc_area@1 auc --margin 0.05 --permutations 2000 --interval beta
    mammo-d2 stats readers ratings.csv --figure auc --method or
    mammo-d2 stats clinical scores.csv --ground-truth datasets/mine/annotations/test.json --prevalence 0.006
    mammo-d2 stats power --auc 0.85 0.90 --prevalence 0.3
"""


def build_parser() -> argparse.ArgumentParser:
    """The tool's arguments."""
    parser = make_parser(DESCRIPTION, "stats")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    calibration = commands.add_parser("calibration", help="Brier score, ECE, slope, reliability diagram, scaling")
    calibration.add_argument("scores", type=Path, help="image scores, JSON or CSV")
    _add_cases(calibration)
    calibration.add_argument("--bins", type=int, default=15, help="of the calibration error, equal numbers of cases")
    calibration.add_argument("--scaling", choices=SCALINGS, default="platt", help="what is fitted on --fit-scores")
    calibration.add_argument("--fit-scores", type=Path, help="scores of other patients, to fit a scaling on")
    calibration.add_argument("--fit-ground-truth", type=Path, help="COCO JSON of those patients")
    calibration.add_argument(
        "--scaling-file", type=Path, help="scaling.json that a run before wrote, in place of a fit"
    )
    _add_output(calibration)
    calibration.set_defaults(run=_run_calibration)

    difference = commands.add_parser("difference", help="two systems on the same patients")
    difference.add_argument("results", nargs="*", type=Path, help="COCO results or predictions.json of two systems")
    difference.add_argument("--image-scores", nargs=2, type=Path, metavar=("FIRST", "SECOND"), help="image scores")
    difference.add_argument("--names", nargs=2, metavar=("FIRST", "SECOND"), help="default: the files' names")
    _add_cases(difference)
    difference.add_argument("--metrics", nargs="+", default=["auc"], metavar="METRIC", help=f"of {METRIC_NAMES}")
    difference.add_argument("--preset", choices=list(PRESETS), default="default", help="detection rule of FROC metrics")
    difference.add_argument("--margin", type=float, help="test non-inferiority of the second system with this margin")
    difference.add_argument("--interval", choices=INTERVALS, default="percentile", help="beta: few positive patients")
    difference.add_argument("--permutations", type=int, default=0, help="of a permutation test; 0: none")
    difference.add_argument(
        "--thresholds", nargs=2, type=float, metavar=("FIRST", "SECOND"), help="McNemar's test at these scores (>=)"
    )
    _add_output(difference)
    difference.set_defaults(run=_run_difference)

    readers = commands.add_parser("readers", help="multi-reader multi-case study")
    readers.add_argument(
        "ratings", type=Path, help="CSV: [treatment,] reader, case, truth, rating; or marks, see --cases"
    )
    readers.add_argument(
        "--cases",
        type=Path,
        help="CSV of free-response studies: case, lesions; ratings then has [treatment,] reader, case, lesion, rating",
    )
    readers.add_argument("--figure", choices=READER_FIGURES, help="figure of merit; default: auc, wafroc with --cases")
    readers.add_argument("--method", choices=METHODS, default="or", help="Obuchowski & Rockette, or DBM")
    readers.add_argument(
        "--system", metavar="READER", help="the reader that is a standalone system, against the others"
    )
    readers.add_argument("--confidence", type=float, default=0.95)
    _add_output(readers)
    readers.set_defaults(run=_run_readers)

    clinical = commands.add_parser("clinical", help="screening numbers, decision curve, reclassification")
    clinical.add_argument("scores", nargs="+", type=Path, help="image scores of one or two systems, JSON or CSV")
    clinical.add_argument("--names", nargs="+", default=[], help="default: the files' names")
    _add_cases(clinical)
    clinical.add_argument("--sensitivities", type=float, nargs="+", default=[0.8, 0.9])
    clinical.add_argument("--risks", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1],
                          help="threshold probabilities of the net benefit; the curve spans them")  # fmt: skip
    clinical.add_argument("--prevalence", type=float, help="of the programme, e.g. 0.006; default: that of the data")
    clinical.add_argument(
        "--cuts", type=float, nargs="*", help="risk categories of the NRI of two systems; none: any change"
    )
    _add_output(clinical)
    clinical.set_defaults(run=_run_clinical)

    power = commands.add_parser("power", help="how many patients a planned comparison takes")
    power.add_argument("--auc", nargs=2, type=float, metavar=("FIRST", "SECOND"), help="expected AUCs")
    power.add_argument("--prevalence", type=float, default=0.5, help="part of positive patients in the test set")
    power.add_argument("--correlation", type=float, default=0.5, help="of the two AUC estimates")
    power.add_argument("--margin", type=float, default=0.0, help="above 0: non-inferiority of the second")
    power.add_argument(
        "--discordant", nargs=2, type=float, metavar=("SECOND_ONLY", "FIRST_ONLY"),
        help="parts of the positive patients that only one of the systems finds (McNemar's test)",
    )  # fmt: skip
    power.add_argument("--level", type=float, default=0.05, help="two-sided")
    power.add_argument("--power", type=float, default=0.8)
    power.set_defaults(run=_run_power)
    return parser


def _add_cases(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--ground-truth", type=Path, required=True, help="COCO JSON of the images")
    parser.add_argument("--classes", nargs="+", default=[], help="categories to evaluate; default: all")
    parser.add_argument("--merge", default="", metavar="NAME", help="the one class that all of --classes become")
    parser.add_argument("--positive-classes", nargs="+", default=[], help="default: malignant, or all classes")
    parser.add_argument("--level", choices=LEVELS, default="patient", help="what a case is")
    parser.add_argument("--aggregate", choices=("max", "mean"), default="max", help="image scores of a case")
    parser.add_argument("--bootstrap", type=int, default=1000, help="replicates over patients; 0: no intervals")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, help="folder for JSON, tables and figures; default: console only")
    parser.add_argument("--figures", nargs="+", choices=FIGURE_FORMATS, default=["png"], help="formats of the figures")


def run(argv: list[str]) -> int:
    """Run one sub-command; see ``--help``."""
    args = build_parser().parse_args(argv)
    if getattr(args, "output", None) is not None:
        make_folder(args.output, "--output")
    return args.run(args)


def _case_rule(args: argparse.Namespace) -> CaseRule:
    return CaseRule(args.level, args.aggregate, tuple(args.positive_classes))


def _load(args: argparse.Namespace) -> tuple[GroundTruth, CaseRule, Resampling]:
    truth, rule = load_ground_truth(args.ground_truth, args.classes, (), args.merge), _case_rule(args)
    return truth, rule, resampling_of(truth, rule, BootstrapPlan(args.bootstrap, args.seed, args.confidence))


def _names(given: Sequence[str] | None, files: Sequence[Path]) -> list[str]:
    names = list(given or [])
    if not names:
        names = [file.stem for file in files]
        if len(set(names)) < len(names):
            names = [f"{file.parent.name}/{file.stem}" for file in files]
    if len(names) != len(files) or len(set(names)) != len(names):
        raise ValueError(f"--names {' '.join(names)}: {len(files)} different names are needed, one per system")
    return names


def _finish(text: str, paths: Sequence[Path]) -> int:
    print(text)
    if paths:
        print("\nwritten: " + ", ".join(map(str, paths)))
    return 0


def _run_calibration(args: argparse.Namespace) -> int:
    if (args.fit_scores is None) != (args.fit_ground_truth is None):
        raise ValueError(
            "--fit-scores and --fit-ground-truth go together: the scores and truth that a scaling is fitted on"
        )
    if args.fit_scores is not None and args.scaling_file is not None:
        raise ValueError("--scaling-file is used in place of a fit; leave out --fit-scores or --scaling-file")
    truth, rule, resampling = _load(args)
    recalibration = None if args.scaling_file is None else _read_scaling(args.scaling_file)
    if args.fit_scores is not None:
        fit_truth = load_ground_truth(args.fit_ground_truth, args.classes, (), args.merge)
        fitted_on = load_system(fit_truth, "fit", rule, scores=args.fit_scores).cases
        recalibration = fit_recalibration(fitted_on.truth, fitted_on.scores, args.scaling)
    cases = load_system(truth, args.scores.stem, rule, scores=args.scores).cases
    report = calibration_report(cases, resampling, recalibration, args.bins)
    paths = []
    if args.output is not None:
        paths = write_calibration(report, args.output, args.figures)
        if recalibration is not None:
            paths.append(write_json(args.output / "scaling.json", recalibration.as_dict(), indent=2))
            paths += _write_scaled(args, truth, recalibration)
    return _finish(calibration_text(report), paths)


def _read_scaling(path: Path) -> Recalibration:
    content = read_json(path, error=ResultsError)
    try:
        return Recalibration(str(content["kind"]), float(content["slope"]), float(content["intercept"]))
    except (TypeError, KeyError, ValueError) as cause:
        raise ResultsError(f"{path}: a scaling has kind, slope and intercept, as --output's scaling.json") from cause


def _write_scaled(args: argparse.Namespace, truth: GroundTruth, recalibration: Recalibration) -> list[Path]:
    """Image scores after scaling. The scaling was fitted on cases: with max over images both orders agree."""
    if args.aggregate != "max" and args.level != "image":
        print("scaled image scores are not written: with --aggregate mean the scaling is of cases, not of images")
        return []
    values = recalibration.apply(load_image_scores(args.scores, truth))
    entries = [
        {"image_id": image_id, "scores": dict(zip(truth.images.classes, row, strict=True))}
        for image_id, row in zip(truth.images.ids, values.tolist(), strict=True)
    ]
    return [write_json(args.output / "image_scores.json", entries, indent=None, nan_as_null=True)]


def _run_difference(args: argparse.Namespace) -> int:
    if len(args.results) not in ((0, 2) if args.image_scores else (2,)):
        raise ValueError(f"{len(args.results)} results files; a difference takes two, or --image-scores FIRST SECOND")
    for name in args.metrics:
        check_metric(name)
    if not args.results and any(map(is_detection_metric, args.metrics)):
        raise ValueError("FROC metrics need boxes: name COCO results of both systems")
    if args.bootstrap < 1:
        raise ValueError(f"--bootstrap {args.bootstrap}: differences need replicates, e.g. 1000")
    truth, rule, resampling = _load(args)
    names = _names(args.names, args.results or args.image_scores)
    first, second = (
        load_system(
            truth, name, rule,
            results=args.results[n] if args.results else None,
            scores=args.image_scores[n] if args.image_scores else None,
        )
        for n, name in enumerate(names)
    )  # fmt: skip
    thresholds = None if args.thresholds is None else (args.thresholds[0], args.thresholds[1])
    options = DifferenceOptions(tuple(args.metrics), args.interval, args.margin, args.permutations, thresholds)
    froc_rule = get_preset(args.preset).rule
    with tqdm(total=args.bootstrap, desc="bootstrap", disable=not sys.stderr.isatty()) as bar:

        def advance(done: int) -> None:
            bar.update(done)

        report = difference_report(truth, (first, second), rule, froc_rule, resampling, options, advance)
    paths = [] if args.output is None else write_difference(report, args.output, args.figures)
    return _finish(difference_text(report), paths)


def _run_readers(args: argparse.Namespace) -> int:
    if not 0 < args.confidence < 1:
        raise ValueError(f"--confidence {args.confidence:g} must lie between 0 and 1, e.g. 0.95")
    marks = read_reader_study(args.ratings, args.cases)
    figure = args.figure or ("wafroc" if args.cases else "auc")
    if args.cases is None and figure != "auc":
        raise ValueError(f"--figure {figure} is of free-response marks; ROC ratings have auc, or name --cases")
    if args.system is not None and args.system not in marks.readers:
        raise ValueError(f"--system {args.system}: no reader of that name; the readers are {', '.join(marks.readers)}")
    figures = reader_figures(marks, figure)
    method = obuchowski_rockette if args.method == "or" else dorfman_berbaum_metz
    result = method(figures, args.confidence)
    standalone = None
    if args.system is not None:
        standalone = standalone_against_readers(figures, marks.readers.index(args.system), args.confidence)
    paths = [] if args.output is None else write_readers(marks, result, standalone, args.output, args.figures)
    return _finish(reader_text(marks, result, standalone, args.system or ""), paths)


def _run_clinical(args: argparse.Namespace) -> int:
    if len(args.scores) > 2:
        raise ValueError(f"{len(args.scores)} files of scores; name one system, or two to compare")
    truth, rule, resampling = _load(args)
    systems: list[ScoredSystem] = [
        load_system(truth, name, rule, scores=path)
        for name, path in zip(_names(args.names, args.scores), args.scores, strict=True)
    ]
    cuts = None if args.cuts is None else tuple(args.cuts)
    options = ClinicalOptions(tuple(args.sensitivities), tuple(args.risks), args.prevalence, cuts)
    report = clinical_report(systems, resampling, options)
    paths = [] if args.output is None else write_clinical(report, args.output, args.figures)
    return _finish(clinical_text(report), paths)


def _run_power(args: argparse.Namespace) -> int:
    if args.auc is None and args.discordant is None:
        raise ValueError("nothing to plan: name --auc FIRST SECOND, --discordant SECOND_ONLY FIRST_ONLY, or both")
    if args.auc is not None:
        first, second = args.auc
        needed = patients_for_auc(first, second, args.prevalence, args.correlation, args.margin, args.level, args.power)
        positives = round(args.prevalence * needed)
        aim = f"non-inferiority with margin {args.margin:g}" if args.margin > 0 else "a difference"
        print(
            f"AUC {first:g} and {second:g}, correlation {args.correlation:g}, {args.prevalence:.3g} positive: {needed} "
            f"patients ({positives} positive) show {aim} with power {args.power:g} at level {args.level:g}"
        )
    if args.discordant is not None:
        pairs = pairs_for_sensitivity(args.discordant[0], args.discordant[1], args.level, args.power)
        print(
            f"discordant {args.discordant[0]:g} and {args.discordant[1]:g}: {pairs} positive patients for a difference "
            f"in sensitivity with power {args.power:g} at level {args.level:g} (McNemar)"
        )
    print("one case per patient; 'patients needed' of mammo-d2 stats difference plans from data of your own")
    return 0
