"""The command ``report``: write the HTML report of a finished run."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.config.loading import load_config
from mammo_d2.engine.run_folder import config_file
from mammo_d2.report.run_blocks import PictureFolder
from mammo_d2.report.run_report import write_run_report
from mammo_d2.report.viewer.viewer_block import MAX_IMAGES

DESCRIPTION = """Write the HTML report of a finished training or evaluation run: one self-contained file.

Its viewer has the evaluated images at full prepared resolution (about 40 kB each) with the truth, the boxes from any
score on, counted as the run's FROC curve counts, and the response maps; see docs/viewer.md.

Examples:
    mammo-d2 report --run output/phantom_top_likelihood
    mammo-d2 report --run output/phantom_gmic --output moved.html DATASETS.ROOT /new/place/of/the/datasets
    mammo-d2 report --run output/phantom_dual_branch --pictures regions TEST.REGIONS.PICTURES 20
    mammo-d2 report --run output/phantom_lesion_context --pictures lesions TEST.LESION.PICTURES 20
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "report")
    parser.add_argument("--run", type=Path, required=True, help="OUTPUT_DIR of the run")
    parser.add_argument("--output", type=Path, help="HTML file to write; default: report.html in the run's folder")
    parser.add_argument(
        "--pictures",
        type=Path,
        help="also write the pictures of regions (evaluator regions) or lesions to this folder, as PNG",
    )
    parser.add_argument(
        "--images", type=int, default=MAX_IMAGES, metavar="N", help="most images in the viewer [%(default)s]; 0: none"
    )
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="config overrides")
    args = parser.parse_args(argv)
    if args.images < 0:
        parser.error(f"--images must not be negative, got {args.images}")
    cfg = load_config(config_file(args.run), args.opts)
    print(write_run_report(cfg, args.run, args.output, PictureFolder(args.pictures), args.images))
    return 0
