#!/usr/bin/env python3
"""Train and test any methods on the same patients; print one table with intervals and paired differences."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.compare import run

if __name__ == "__main__":
    run_tool(run)
