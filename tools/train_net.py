#!/usr/bin/env python3
"""Train or evaluate any method of the package from a YAML config; see ``--help``."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.train import run

if __name__ == "__main__":
    run_tool(run)
