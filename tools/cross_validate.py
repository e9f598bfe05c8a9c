#!/usr/bin/env python3
"""Cross-validate a config on a prepared data set, split by patient; print mean ± standard deviation."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.cross_validate import run

if __name__ == "__main__":
    run_tool(run)
