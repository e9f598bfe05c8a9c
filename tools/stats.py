#!/usr/bin/env python3
"""Calibration, comparisons, reader studies, clinical numbers and sample sizes; no model is needed."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.stats import run

if __name__ == "__main__":
    run_tool(run)
