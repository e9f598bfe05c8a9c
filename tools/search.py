#!/usr/bin/env python3
"""Search hyper-parameters: train a config with values drawn from ranges, evaluated on a validation set."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.search import run

if __name__ == "__main__":
    run_tool(run)
