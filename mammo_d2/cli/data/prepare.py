"""The command ``prepare``: a sub-command per converter, and one that checks what is prepared."""

from __future__ import annotations

from functools import partial

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.cli.arguments.prepare_arguments import add_label_argument, add_prepare_arguments, run_prepare
from mammo_d2.cli.arguments.validate_arguments import VALIDATE_DESCRIPTION, add_validate_arguments, run_validate
from mammo_d2.data.converters.converter_registry import find_converters

DESCRIPTION = """Prepare data sets: source files to 16-bit PNGs, COCO annotations per split, error table and manifest.

The result goes to OUT/annotations/{train,val,test}.json and OUT/images/. Put OUT under the folder named by the
environment variable MAMMO_D2_DATASETS (or DATASETS.ROOT of the configuration), and it is registered as NAME_train,
NAME_val, NAME_test, where NAME is OUT's last part. See datasets/README.md.
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
    args = parser.parse_args(argv)
    return args.run(args)
