"""The command ``predict``: boxes and scores of image files that were never prepared."""

import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from mammo_d2 import __version__
from mammo_d2.cli.arguments.command_line import EXIT_FAILED, EXIT_OK, add_size_limit, make_parser
from mammo_d2.config.loading import load_config
from mammo_d2.core.files import make_folder
from mammo_d2.core.identifiers import SALT_FILE, make_salt, read_salt
from mammo_d2.data.reading.size_limits import allow_megapixels
from mammo_d2.inference.prediction_files import FileProblem, Prediction, write_picture, write_predictions
from mammo_d2.inference.predictor import Predictor, find_image_files
from mammo_d2.jobs.job import build_job

DESCRIPTION = """Find lesions in image files with a trained model; the files need no preparation.

Writes to the output folder, all boxes in pixels of the original files:
  predictions.json   a COCO file: images, categories, annotations with a score; mammo-d2 evaluate reads it, too
  predictions.csv    a row per box, also in millimetres where the file knows its pixel spacing
  image_scores.csv   a row per file with the score of every class
  errors.csv         files that could not be used, and warnings
  id_salt.txt        the secret in the hashes of identifiers; keep it, and do not pass it on
  pictures/          with --pictures: the files with the boxes drawn

Patient and exam identifiers of DICOM files are hashed as mammo-d2 prepare does it; names of files stay as given. The
hashes have a random secret, made with the first predictions of an output folder, so that they stay the same when the
command is repeated. --id-salt "$(cat datasets/mine/id_salt.txt)" gives the hashes of a prepared data set.

Boxes and scores are those of an evaluation with the same weights, so that its thresholds hold.

This is research software and no medical device.

Examples:
    mammo-d2 predict --config-file output/mine/config.yaml --weights output/mine/model_final.pth \\
        --input exam1/ image.dcm --output predictions --pictures --score-threshold 0.5
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "predict")
    parser.add_argument("--config-file", required=True, help="config of the model, e.g. config.yaml of its run")
    parser.add_argument("--weights", required=True, help="its trained weights, model_final.pth")
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE|FOLDER",
        help="images, or folders of them (write -- before KEY VALUE if they follow)",
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--score-threshold", type=float, help="leave out boxes below; default: the config's")
    parser.add_argument("--batch-size", type=int, default=1, help="images that go through the model together")
    parser.add_argument(
        "--autocast",
        action="store_true",
        help="run in SOLVER.AMP.DTYPE rather than in float32 as an evaluation: faster, but boxes and scores differ",
    )
    parser.add_argument("--pictures", action="store_true", help="also write the files with the boxes drawn")
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
    parser.add_argument("--strict", action="store_true", help="fail at the first file that cannot be used")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides, after the options")
    args = parser.parse_args(argv)
    if args.regions < 0:
        parser.error(f"--regions must not be negative, got {args.regions}")
    if args.score_threshold is not None and not 0 <= args.score_threshold <= 1:
        parser.error(f"--score-threshold must be in [0, 1], got {args.score_threshold}")

    allow_megapixels(args.max_megapixels)
    cfg = load_config(args.config_file, [*args.opts, "MODEL.WEIGHTS", args.weights])
    build_job(cfg).check_files()
    threshold = cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST if args.score_threshold is None else args.score_threshold
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = min(threshold, cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST)
    # An image whose decoder crashes ends the process that reads it: never this one.
    cfg.DATALOADER.NUM_WORKERS = max(1, cfg.DATALOADER.NUM_WORKERS)
    files = find_image_files(args.input)
    predictor = Predictor(cfg, autocast=args.autocast)
    make_folder(args.output, "--output")
    read_salt(args.output)  # an error now, not after hours of predictions
    predictions: list[Prediction] = []
    problems: list[FileProblem] = []
    outcomes = predictor(files, batch_size=args.batch_size, strict=args.strict, pictures=args.pictures)
    info = {"description": f"predictions of {args.weights} by mammo_d2 {__version__}, research software"}

    def write() -> None:
        salt = "" if args.keep_ids else args.id_salt or _salt_of(args.output, predictions)
        write_predictions(
            args.output, predictions, problems, predictor.classes, info, keep_ids=args.keep_ids, id_salt=salt
        )

    try:
        for outcome in tqdm(outcomes, "predict", len(files), unit="image", disable=args.quiet):
            if isinstance(outcome, FileProblem):
                problems.append(outcome)
                continue
            outcome = outcome.at_least(threshold)
            if args.pictures:
                write_picture(args.output, len(predictions) + 1, outcome, predictor.classes, args.regions)
            predictions.append(outcome.without_picture())
    except BaseException:  # an interruption too: hours of predictions must not be lost with it
        if predictions:
            write()
            print(f"stopped; {args.output} has the results of the first {len(predictions)} images", file=sys.stderr)
        raise
    write()

    boxes = sum(len(prediction.scores) for prediction in predictions)
    print(f"{args.output}: {boxes} boxes on {len(predictions)} images")
    for problem in problems[:10]:
        print(f"left out: {problem.problem}", file=sys.stderr)
    if problems:
        print(f"{len(problems)} of {len(files)} files were left out; see errors.csv", file=sys.stderr)
    return EXIT_OK if predictions else EXIT_FAILED


def _salt_of(folder: Path, predictions: Sequence[Prediction]) -> str:
    """The folder's secret text for hashes, made if there is something to hash."""
    metas = [prediction.meta for prediction in predictions]
    if not any(meta.patient_id or meta.exam_id or meta.sop_instance_uid for meta in metas):
        return ""
    return read_salt(folder) or make_salt(folder)
