"""The command ``export-dicom``: results as DICOM objects that refer to the images."""

import sys
import warnings
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path

from mammo_d2.cli.arguments.command_line import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, make_parser
from mammo_d2.core.files import make_folder, sha256_bytes
from mammo_d2.core.identifiers import SALT_FILE, make_salt, read_salt

# As mammo_d2.inference.dicom_export.exported_objects has it, which needs highdicom.
KIND_NAMES = ("sr", "cad", "seg", "gsps")

DESCRIPTION = """Write predictions as DICOM objects that refer to the images they were made on.

Kinds, all to the output folder:
  sr    a report of each study with boxes and scores (Comprehensive SR, TID 1500)
  gsps  the boxes of each image as lines to lay over it (Grayscale Softcopy Presentation State)
  seg   the saliency maps of each image (fractional Segmentation), of mammo-d2 predict --saliency
  cad   a mammography CAD report of each study (TID 4000), for viewers that show CAD marks
and  objects.csv  a row per object with its UID and its sources;  errors.csv  images left out, and warnings

By default patient and study attributes are left out and Patient ID is hashed, as mammo-d2 predict does it; the objects
keep the UIDs of the images, without which nothing tells which image is meant. --keep-ids takes patient and study as
they are in the files: an archive needs that to put the objects beside the images.

The same results give the same objects with the same UIDs. docs/dicom_export.md has the details.

Exit code 0: all images were exported; 3: some were left out, see errors.csv; 1: all were; 2: bad arguments or input.

This is research software and no medical device; the objects say so.

Examples:
    mammo-d2 export-dicom predictions --source exam1/ --output dicom --score-threshold 0.3
    mammo-d2 export-dicom results.json --images images.json --source exam1/ --output dicom --model-name "My detector" \\
        --model-version 2.1 --kinds sr gsps cad --keep-ids
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "export-dicom")
    parser.add_argument(
        "predictions", type=Path,
        help="folder of mammo-d2 predict, its predictions.jsonl or predictions.json, another COCO file with scores, or "
        "COCO results",
    )  # fmt: skip
    parser.add_argument(
        "--source", nargs="+", default=[], metavar="FILE|FOLDER",
        help="the DICOM files that were predicted, with all sub-folders; default: the files that the results name",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, help="folder of the objects")
    parser.add_argument("--kinds", nargs="+", choices=KIND_NAMES, default=["sr", "gsps", "seg"], help="what to write")
    parser.add_argument("--images", type=Path, help="of COCO results: the COCO file with their images and categories")
    parser.add_argument("--score-threshold", type=float, default=0.0, help="leave out boxes below")
    parser.add_argument("--regions", type=int, default=0, metavar="N", help="the N best boxes of each class; 0: all")
    parser.add_argument(
        "--keep-ids", action="store_true", help="with patient and study attributes as they are in the files"
    )
    parser.add_argument(
        "--id-salt", default="", help=f"secret text in the hashes [{SALT_FILE} beside the predictions or in the output]"
    )
    parser.add_argument("--frame", type=int, help="frame of multi-frame files that was predicted, from 0")
    parser.add_argument("--model-name", help="name of the detector, for results that do not say it")
    parser.add_argument("--model-version", help="its version")
    parser.add_argument("--strict", action="store_true", help="fail at the first image without a usable source")
    args = parser.parse_args(argv)
    if not 0 <= args.score_threshold <= 1:
        parser.error(f"--score-threshold must be in [0, 1], got {args.score_threshold}")
    if args.regions < 0:
        parser.error(f"--regions must not be negative, got {args.regions}")

    # Only now, so that --help does without highdicom.
    from mammo_d2.inference.dicom_export.coded_findings import ExportFacts
    from mammo_d2.inference.dicom_export.exported_objects import export_objects
    from mammo_d2.inference.dicom_export.result_images import read_result_images
    from mammo_d2.inference.dicom_export.source_instances import SourceFinder

    results = read_result_images(args.predictions, args.images)
    name, version = _model(args.model_name, args.model_version, results.model, results.path)
    folder = make_folder(args.output, "--output")
    salt = args.id_salt or read_salt(results.path.parent) or read_salt(folder) or ""
    if not salt and not args.keep_ids:
        salt = make_salt(folder)
    frame = results.frame if args.frame is None else args.frame
    finder = SourceFinder(args.source, salt=salt, keep_ids=args.keep_ids, frame=frame)
    images = [image.best(args.score_threshold, args.regions) for image in results.images]
    time = datetime.fromtimestamp(results.path.stat().st_mtime, tz=timezone.utc)
    options = (args.score_threshold, args.regions, args.keep_ids, frame, salt)
    facts = ExportFacts(name, version, time, sha256_bytes(repr((results.digest, time, options)).encode()))
    with warnings.catch_warnings():
        # Public data sets have names of one part, as hashes are.
        warnings.filterwarnings("ignore", "The string .* is unlikely to represent the intended person name")
        outcome = export_objects(
            images, finder, facts, folder, args.kinds, saliency=results.path.parent, strict=args.strict
        )
    written = ", ".join(f"{outcome.written[kind]} {kind}" for kind in KIND_NAMES if kind in args.kinds)
    print(f"{folder}: {written} of {outcome.images} images, {'with' if args.keep_ids else 'without'} patient and study")
    for image, warning in islice(outcome.warnings, 10):
        print(f"{image}: {warning}", file=sys.stderr)
    if not outcome.problems:
        return EXIT_OK
    for _, problem in islice(outcome.problems, 10):
        print(f"left out: {problem}", file=sys.stderr)
    print(f"{len(outcome.problems)} of {len(images)} images were left out; see errors.csv", file=sys.stderr)
    return EXIT_PARTIAL if outcome.images else EXIT_FAILED


def _model(name: str | None, version: str | None, known: tuple[str, str] | None, path: Path) -> tuple[str, str]:
    """Name and version of what predicted; objects without them are worth nothing."""
    name, version = name or (known[0] if known else ""), version or (known[1] if known else "")
    if not name or not version:
        raise ValueError(f"{path}: does not say what made it; name it with --model-name and --model-version")
    return name, version
