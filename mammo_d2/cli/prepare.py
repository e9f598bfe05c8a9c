"""The command ``prepare``: a sub-command per converter, and one that checks what is prepared."""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.cli.arguments.prepare_arguments import add_label_argument, add_prepare_arguments, run_prepare
from mammo_d2.data.converters.converter_registry import find_converters
from mammo_d2.data.format.annotations import check_splits, validate_coco
from mammo_d2.data.format.problems import Report

DESCRIPTION = """Prepare data sets: source files to 16-bit PNGs, COCO annotations per split, error table and manifest.

The result goes to OUT/annotations/{train,val,test}.json and OUT/images/. Put OUT under the folder named by the
environment variable MAMMO_D2_DATASETS (or DATASETS.ROOT of the configuration), and it is registered as NAME_train,
NAME_val, NAME_test, where NAME is OUT's last part. See datasets/README.md.
"""

VALIDATE_DESCRIPTION = """Check a prepared data set or COCO files.

Looks at every record, at the image files, and that no patient is in two splits. Exit code 0: no errors, 1: errors,
2: the file cannot be read.
"""


def run(argv: list[str]) -> int:
    """Run one sub-command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "prepare")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, converter in find_converters().items():
        command = commands.add_parser(name, help=converter.summary, description=converter.description)
        converter.add_arguments(command)
        add_label_argument(command, converter)
        add_prepare_arguments(command)
        command.set_defaults(run=partial(run_prepare, converter))
    validate = commands.add_parser("validate", help="check a prepared data set", description=VALIDATE_DESCRIPTION)
    _validate_arguments(validate)
    validate.set_defaults(run=_run_validate)
    args = parser.parse_args(argv)
    return args.run(args)


def _validate_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="+", help="prepared data set folder, or COCO JSON files")
    parser.add_argument("--image-root", type=Path, default=None,
                        help="folder that file_name is relative to [images/ beside annotations/]")  # fmt: skip
    parser.add_argument("--images", choices=("none", "exists", "size", "full"), default="size",
                        help="check of the image files: none, their presence, their size, decode all")  # fmt: skip
    parser.add_argument("--warnings-fail", action="store_true", help="exit code 1 for warnings too")
    parser.add_argument("--limit", type=int, default=20, help="lines per kind of problem")


def _run_validate(args: argparse.Namespace) -> int:
    report = Report()
    files: list[Path] = []
    for path in args.path:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file or folder; prepare the data set first")
        found = sorted((path / "annotations").glob("*.json")) if path.is_dir() else [path]
        if not found:
            raise FileNotFoundError(f"{path}: no annotations/*.json in it; give a prepared data set or a JSON file")
        files += found
    for file in files:
        root = args.image_root or file.parent.parent / "images"
        how = args.images
        if how != "none" and not root.is_dir():
            raise FileNotFoundError(f"{root}: no such image folder; give --image-root, or --images none")
        report.extend(validate_coco(file, root, check_images=how))
    if len(files) > 1:
        report.extend(check_splits(files))
    print(report.format(args.limit))
    failed = bool(report.errors) or (args.warnings_fail and bool(report.warnings))
    return 1 if failed else 0
