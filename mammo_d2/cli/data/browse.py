"""The command ``browse``: a prepared data set in the viewer."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import category_names
from mammo_d2.report.viewer.viewed_prepared import as_the_network_sees, prepared_dataset, prepared_splits
from mammo_d2.report.viewer.viewer_block import MAX_IMAGES, Viewer
from mammo_d2.report.viewer.viewer_page import write_viewer_page

DESCRIPTION = """Look at a prepared data set: one HTML file with its images and their truth, which opens offline.

With --config-file the images are shown as the network of that training gets them: resized, in its intensities, once as
they are and --variants times with the augmentation drawn. The layout "exam" has them side by side.

Examples:
    mammo-d2 browse datasets/phantom --output phantom.html
    mammo-d2 browse datasets/phantom --splits train --output drawn.html --images 80 --variants 3 \\
        --config-file mammo_d2://quickstart/phantom_top_likelihood.yaml
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "browse")
    parser.add_argument("dataset", type=Path, help="folder of a prepared data set")
    parser.add_argument("--output", type=Path, required=True, help="HTML file to write")
    parser.add_argument("--splits", nargs="+", default=[], metavar="SPLIT", help="train, val, test; default: all")
    parser.add_argument("--classes", nargs="+", default=[], metavar="NAME", help="categories shown; default: all")
    parser.add_argument(
        "--images", type=int, default=MAX_IMAGES, metavar="N", help="most images in the file [%(default)s]"
    )
    parser.add_argument("--side", type=int, metavar="PIXELS", help="longest side of an image; default: as they are")
    parser.add_argument("--config-file", help="of a training: show what its network gets")
    parser.add_argument("--variants", type=int, default=3, help="drawn samples of each image, with --config-file [3]")
    parser.add_argument("--seed", type=int, default=0, help="of the draws")
    parser.add_argument("--opts", nargs="+", default=[], metavar="KEY VALUE", help="config overrides")
    args = parser.parse_args(argv)
    for name in ("images", "variants", "side"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    if args.opts and not args.config_file:
        parser.error("--opts needs --config-file")
    splits, words, layout = prepared_splits(args.dataset, args.splits), [], "single"
    if args.config_file:
        cfg = load_config(args.config_file, args.opts)
        if args.classes or cfg.DATASETS.MERGE_CATEGORIES:
            parser.error("--config-file has the classes, which must not be merged: set DATASETS.CATEGORIES in --opts")
        limit = max(args.images // len(splits), 1)
        datasets = [
            as_the_network_sees(cfg, prepared_dataset(*split, category_names(cfg)), args.variants, limit, args.seed)
            for split in splits
        ]
        layout = "exam"
        words.append(f"Samples of the training {args.config_file}, drawn with seed {args.seed}.")
    else:
        datasets = [prepared_dataset(*split, args.classes) for split in splits]
    viewer = Viewer(datasets, args.images, args.side, layout)
    print(write_viewer_page(args.output, f"Data set: {args.dataset.resolve().name}", viewer, words))
    return 0
