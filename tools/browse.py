#!/usr/bin/env python3
"""The viewer over a prepared data set, in one HTML file."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.data.browse import run

if __name__ == "__main__":
    run_tool(run)
