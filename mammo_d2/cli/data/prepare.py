"""The command ``prepare``: a sub-command per converter, and one that checks what is prepared."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.cli.arguments.prepare_arguments import (
    add_check_argument,
    add_label_argument,
    add_prepare_arguments,
    run_merge,
    run_prepare,
)
from mammo_d2.cli.arguments.validate_arguments import VALIDATE_DESCRIPTION, add_validate_arguments, run_validate
from mammo_d2.data.converters.converter_registry import find_converters

DESCRIPTION = """Prepare data sets: source files to 16-bit images, COCO annotations per split, error table and manifest.

The result goes to OUT/annotations/{train,val,test}.json and OUT/images/. Put OUT under the folder named by the
environment variable MAMMO_D2_DATASETS (or DATASETS.ROOT of the configuration), and it is registered as NAME_train,
NAME_val, NAME_test, where NAME is OUT's last part. See datasets/README.md.
"""

MERGE_DESCRIPTION = """Make a data set of its shards, those of prepare ... --out OUT --shard 1/N to --shard N/N.

Splits by patient, equal images and leaks between splits are found over all shards; the files are those of one run.
Shards of several machines need the same --id-salt (of DICOM folders), and their folders copied into one.
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
    add_validate_arguments(validate)
    validate.set_defaults(run=run_validate)
    merge = commands.add_parser("merge", help="make a data set of its shards", description=MERGE_DESCRIPTION)
    merge.add_argument("out", type=Path, metavar="OUT", help="folder of the prepared data set")
    add_check_argument(merge)
    merge.set_defaults(run=run_merge)
    args = parser.parse_args(argv)
    return args.run(args)
