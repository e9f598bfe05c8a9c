"""The command ``predict``: boxes and scores of image files that were never prepared."""

import argparse
import csv
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from mammo_d2 import __version__
from mammo_d2.cli.arguments.command_line import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_PARTIAL,
    add_size_limit,
    make_parser,
)
from mammo_d2.cli.arguments.model_arguments import add_model_arguments, choose_models, model_lines
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import make_folder
from mammo_d2.core.identifiers import SALT_FILE
from mammo_d2.core.processes.kept_memory import keep_freed_memory
from mammo_d2.data.reading.size_limits import allow_megapixels
from mammo_d2.engine.setup import check_device
from mammo_d2.framework import CfgNode, comm, launch
from mammo_d2.inference.boxes.test_time_augmentation import FLIPS, TestTimeAugmentation
from mammo_d2.inference.cluster.cluster_predictor import ClusterPredictor, PredictorRecipe
from mammo_d2.inference.image_files import FoundFiles, find_images, split_overrides
from mammo_d2.inference.prediction_run import PredictionRun, RunOptions, prediction_settings
from mammo_d2.inference.result_files import ERROR_FILE, ResultCounts
from mammo_d2.jobs.job import build_job

# Processes of a job may wait for the last one as long as it takes.
_LONGEST = timedelta(days=30)

DESCRIPTION = """Find lesions in image files with a trained model; the files need no preparation.

Writes to the output folder, all boxes in pixels of the original files:
  predictions.jsonl  a line per file, written as soon as it is predicted; what --resume goes on from
  predictions.json   a COCO file: images, categories, annotations with a score; mammo-d2 evaluate reads it, too
  predictions.csv    a row per box, also in millimetres where the file knows its pixel spacing
  image_scores.csv   a row per file with the score of every class
  errors.csv         files that could not be used, and warnings
  id_salt.txt        the secret in the hashes of identifiers; keep it, and do not pass it on
  pictures/          with --pictures: the files with the boxes drawn
  saliency/          with --saliency: maps of methods that have them, for mammo-d2 export-dicom

Patient and exam identifiers of DICOM files are hashed as mammo-d2 prepare does it; names of files stay as given. The
hashes have a random secret, made with the first predictions of an output folder, so that they stay the same when the
command is repeated. --id-salt "$(cat datasets/mine/id_salt.txt)" gives the hashes of a prepared data set.

Boxes and scores are those of an evaluation with the same weights, so that its thresholds hold. Two things differ unless
they are asked for: boxes beside the breast are left out (--outside-breast keep), and test-time augmentation (--flips,
--scales) or several models (--weights given several times) fuse boxes by weighted box fusion and average image scores.

A run may be ended at any moment (Ctrl-C, SIGTERM, SIGKILL, a full disk): --resume goes on, and the result files are the
same, byte for byte. It also takes files that have come since. Without it a run starts anew.

Exit code 0: all files were predicted; 3: some were left out, see errors.csv; 1: all were; 2: bad arguments or input, or
results that cannot be written.

This is research software and no medical device.

Without --config-file and --weights the package's own detector of masses is used, see models/ of the package.

Examples (the third one on the four GPUs of a machine, with the same results):
    mammo-d2 predict exam1/
    mammo-d2 predict --config-file output/mine/config.yaml --weights output/mine/model_final.pth \\
        --input exam1/ image.dcm --output predictions --pictures --score-threshold 0.5
    torchrun --nproc-per-node 4 -m mammo_d2 predict --config-file output/mine/config.yaml \\
        --weights output/mine/model_final.pth --input inbox/ --output predictions --resume
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "predict")
    add_model_arguments(parser)
    parser.add_argument(
        "--input",
        nargs="+",
        default=[],
        metavar="FILE|FOLDER",
        help="images, or folders of them (write -- before KEY VALUE if they follow)",
    )
    parser.add_argument("--output", type=Path, default=Path("predictions"), help="folder of the results [%(default)s]")
    parser.add_argument("--score-threshold", type=float, help="leave out boxes below; default: the config's")
    parser.add_argument("--batch-size", type=int, default=1, help="images that go through the model together")
    parser.add_argument(
        "--autocast",
        action="store_true",
        help="run in SOLVER.AMP.DTYPE rather than in float32 as an evaluation: faster, but boxes and scores differ",
    )
    parser.add_argument(
        "--outside-breast",
        choices=("drop", "keep"),
        default="drop",
        help="boxes of which less than a quarter is breast, e.g. on film labels",
    )
    fusion = parser.add_argument_group("test-time augmentation and fusion")
    fusion.add_argument(
        "--flips",
        nargs="+",
        choices=FLIPS,
        default=[],
        help="also predict on mirrored images",
    )
    fusion.add_argument(
        "--scales", nargs="+", type=float, default=[], metavar="S", help="also predict with the input's sides times S"
    )
    fusion.add_argument("--fusion-iou", type=float, default=0.55, help="boxes with a larger overlap are fused")
    parser.add_argument("--pictures", action="store_true", help="also write the files with the boxes drawn")
    parser.add_argument(
        "--saliency", action="store_true", help="also write the saliency maps of methods that have them"
    )
    parser.add_argument(
        "--regions", type=int, default=0, metavar="N", help="draw the N best boxes of each class only; default: all"
    )
    parser.add_argument(
        "--keep-ids", action="store_true", help="write patient and exam identifiers as they are, rather than hash them"
    )
    parser.add_argument(
        "--id-salt",
        default="",
        help=f"secret text in the hashes [that in OUTPUT/{SALT_FILE}, a random one]",
    )
    add_size_limit(parser)
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep the results in the output folder and predict what is missing, failed or changed since",
    )
    parser.add_argument("--strict", action="store_true", help="fail at the first file that cannot be used")
    parser.add_argument(
        "--cluster", default="", metavar="ADDRESS", help="predict on a Dask cluster: its scheduler's address or file"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("words", nargs="*", metavar="FILE|FOLDER|KEY VALUE", help="images, then config overrides")
    args = parser.parse_args(argv)
    keep_freed_memory()
    images, args.opts = split_overrides(args.words)
    args.input = [*args.input, *images]
    if not args.input:
        parser.error("name the images, or folders of them")
    if args.cluster and "RANK" in os.environ:
        parser.error("--cluster distributes the files itself: run it as one process, without torchrun")
    if args.batch_size < 1:
        parser.error(f"--batch-size must be at least 1, got {args.batch_size}")
    if args.regions < 0:
        parser.error(f"--regions must not be negative, got {args.regions}")
    if args.score_threshold is not None and not 0 <= args.score_threshold <= 1:
        parser.error(f"--score-threshold must be in [0, 1], got {args.score_threshold}")

    try:
        models = choose_models(args.config_file, args.weights)
        augmentation = TestTimeAugmentation(tuple(args.flips), tuple(args.scales), args.fusion_iou)
    except ValueError as error:
        parser.error(str(error))

    allow_megapixels(args.max_megapixels)
    args.weights = [weights for _, weights in models]
    for line in model_lines(models):
        print(line)
    cfgs = [_load(args, config, weights) for config, weights in models]
    threshold = cfgs[0].MODEL.ROI_HEADS.SCORE_THRESH_TEST if args.score_threshold is None else args.score_threshold
    for cfg in cfgs:
        cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = min(threshold, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)
    found = find_images(args.input)
    make_folder(args.output, "--output")
    codes: list[int] = []
    launch(_predict, 1, args=(args, cfgs, augmentation, found, threshold, codes), timeout=_LONGEST)
    return codes[0]


def _load(args: argparse.Namespace, config: str, weights: str) -> CfgNode:
    cfg = load_config(config, [*args.opts, "MODEL.WEIGHTS", weights])
    build_job(cfg).check_files()
    # An image whose decoder crashes ends the process that reads it: never this one.
    cfg.DATALOADER.NUM_WORKERS = max(1, cfg.DATALOADER.NUM_WORKERS)
    return cfg


def _predict(
    args: argparse.Namespace,
    cfgs: Sequence[CfgNode],
    augmentation: TestTimeAugmentation,
    found: FoundFiles,
    threshold: float,
    codes: list[int],
) -> None:
    """The command in each process of the job; its exit code goes to ``codes``."""
    in_breast = args.outside_breast == "drop"
    for cfg in cfgs:
        check_device(cfg)
    recipe = PredictorRecipe(cfgs, args.autocast, augmentation, in_breast, args.fusion_iou)
    predictors = recipe.predictors()
    predictor = recipe.joined(predictors)
    if args.cluster:
        predictor = ClusterPredictor(args.cluster, recipe, predictor)
    options = RunOptions(
        args.output, args.resume, args.batch_size, args.strict, threshold, args.pictures, args.regions, args.keep_ids,
        args.id_salt, args.saliency,
    )  # fmt: skip
    settings = prediction_settings(
        predictors, options, autocast=args.autocast, outside_breast=args.outside_breast, flips=args.flips,
        scales=args.scales, fusion_iou=args.fusion_iou,
    )  # fmt: skip
    info = {"description": f"predictions of {', '.join(args.weights)} by mammo_d2 {__version__}, research software"}
    job = PredictionRun(predictor.predict_batches, found, predictor.classes, options, settings, info)
    if args.resume and comm.is_main_process():
        print(f"{args.output}: {job.kept} files have a prediction")
    quiet = args.quiet or not comm.is_main_process()
    counts = job(lambda files: tqdm(files, "predict", job.files_to_do, unit="image", disable=quiet))
    codes.append(EXIT_OK if counts is None else _say(counts, found, args.output))


def _say(counts: ResultCounts, found: FoundFiles, output: Path) -> int:
    """Print what was done, and return the exit code."""
    print(f"{output}: {counts.boxes} boxes on {counts.images} images")
    if counts.outside:
        print(f"{counts.outside} boxes beside the breast were left out (--outside-breast keep)")
    if found.links:
        print(f"{len(found.links)} files are further names (links) of others, which were predicted once")
    if counts.duplicates:
        print(f"{counts.duplicates} files are the same image (SOP instance) as another one; see {ERROR_FILE}")
    if not counts.problems:
        return EXIT_OK
    with (output / ERROR_FILE).open(encoding="utf-8", newline="") as stream:
        errors = (row for row in csv.DictReader(stream) if row["level"] == "error")
        for row in islice(errors, 10):
            print(f"left out: {row['problem']}", file=sys.stderr)
    whole = counts.problems + counts.images
    print(f"{counts.problems} of {whole} files were left out; see {ERROR_FILE}", file=sys.stderr)
    return EXIT_PARTIAL if counts.images else EXIT_FAILED
