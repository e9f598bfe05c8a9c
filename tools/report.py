#!/usr/bin/env python3
"""Write the HTML report of a finished training or evaluation run: one self-contained file."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.report import run

if __name__ == "__main__":
    run_tool(run)
