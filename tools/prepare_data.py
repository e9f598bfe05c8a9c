#!/usr/bin/env python
"""Prepare data sets: source files to 16-bit PNGs, COCO annotations per split, error table and manifest.

The result goes to OUT/annotations/{train,val,test}.json and OUT/images/. Put OUT under the folder named by the
environment variable MAMMO_D2_DATASETS (or DATASETS.ROOT of the configuration), and it is registered as NAME_train,
NAME_val, NAME_test, where NAME is OUT's last part. See datasets/README.md.
"""

from __future__ import annotations

import argparse
import sys

from mammo_d2.cli.common import make_parser, run_tool
from mammo_d2.cli.prepare import COMMANDS


def main(argv: list[str]) -> int:
    """Parse the arguments and run one sub-command; returns the exit code."""
    parser = make_parser(__doc__, prog="prepare_data.py")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        sub = commands.add_parser(name, help=command.help, description=command.description)
        command.add_arguments(sub)
        sub.set_defaults(run=command.run)
    arguments: argparse.Namespace = parser.parse_args(argv)
    return int(arguments.run(arguments))


if __name__ == "__main__":
    run_tool(main, sys.argv[1:])
