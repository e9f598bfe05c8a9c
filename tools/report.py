#!/usr/bin/env python3
"""Write the HTML report of a finished training or evaluation run: one file that needs nothing else."""

from mammo_d2.cli.common import run_tool
from mammo_d2.cli.report import run

if __name__ == "__main__":
    run_tool(run)
