"""The command ``report``: write the HTML report of a finished run."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_files.run_folder import config_file
from mammo_d2.report.run_blocks import PictureFolder
from mammo_d2.report.run_report import ViewerOptions, write_run_report
from mammo_d2.report.trainings.compared_trainings import LoggedRun, write_training_page
from mammo_d2.report.viewer.viewed_files import viewed_predictions
from mammo_d2.report.viewer.viewer_block import MAX_IMAGES, Viewer
from mammo_d2.report.viewer.viewer_page import write_viewer_page

TRAINING_PAGE = "trainings.html"

DESCRIPTION = """Write the HTML report of a finished training or evaluation run: one self-contained file.

Its viewer has the evaluated images at full prepared resolution (about 40 kB each) with the truth, the boxes from any
score on, counted as the run's FROC curve counts, and the response maps; see docs/viewer.md.
Several --run give the curves of their trainings on one page, of runs that still train, too.

Examples:
    mammo-d2 report --run output/phantom_top_likelihood
    mammo-d2 report --run output/mine --beside output/labels --output compared.html
    mammo-d2 report --run output/mine --run output/labels --output curves.html
    mammo-d2 report --predictions predictions --side 2000
    mammo-d2 report --run output/phantom_gmic --output moved.html DATASETS.ROOT /new/place/of/the/datasets
    mammo-d2 report --run output/phantom_dual_branch --pictures regions TEST.REGIONS.PICTURES 20
    mammo-d2 report --run output/phantom_lesion_context --pictures lesions TEST.LESION.PICTURES 20
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "report")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--run", type=Path, action="append",
        help="OUTPUT_DIR of the run; given several times: a page with the loss curves of all of them, no more",
    )  # fmt: skip
    source.add_argument(
        "--predictions", type=Path, metavar="FOLDER", help="output of mammo-d2 predict; a page with the viewer alone"
    )
    parser.add_argument(
        "--beside",
        type=Path,
        nargs="+",
        default=[],
        metavar="RUN",
        help="other runs on the same images, side by side in the viewer (write -- before KEY VALUE if they follow)",
    )
    parser.add_argument(
        "--output", type=Path,
        help="HTML file to write; default: report.html in the folder of the run or predictions, "
        f"{TRAINING_PAGE} in that of the first of several runs",
    )  # fmt: skip
    parser.add_argument(
        "--pictures",
        type=Path,
        help="also write the pictures of regions (evaluator regions) or lesions to this folder, as PNG",
    )
    parser.add_argument(
        "--images", type=int, default=MAX_IMAGES, metavar="N", help="most images in the viewer [%(default)s]; 0: none"
    )
    parser.add_argument(
        "--side", type=int, metavar="PIXELS", help="longest side of an image in the viewer; default: as they are"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")
    args = parser.parse_args(argv)
    if args.images < 0:
        parser.error(f"--images must not be negative, got {args.images}")
    if args.side is not None and args.side < 1:
        parser.error(f"--side must be at least 1, got {args.side}")
    if args.predictions is not None:
        if args.opts or args.beside or args.pictures:
            parser.error("--predictions goes with --output, --images and --side alone")
        viewer = Viewer([viewed_predictions(args.predictions)], args.images, args.side)
        folder = args.predictions if args.predictions.is_dir() else args.predictions.parent
        print(write_viewer_page(args.output or folder / "report.html", f"Predictions: {folder.resolve().name}", viewer))
        return 0
    if len(args.run) > 1:
        if args.beside or args.pictures:
            parser.error("several --run go with --output and KEY VALUE alone")
        runs = [LoggedRun(load_config(config_file(run), args.opts), run) for run in args.run]
        print(write_training_page(args.output or args.run[0] / TRAINING_PAGE, runs))
        return 0
    (folder,) = args.run
    cfg = load_config(config_file(folder), args.opts)
    beside = [(load_config(config_file(run), args.opts), run) for run in args.beside]
    pictures, shown = PictureFolder(args.pictures), ViewerOptions(args.images, args.side, beside)
    print(write_run_report(cfg, folder, args.output, pictures, shown))
    return 0
