#!/usr/bin/env python3
"""Prepare data sets: source files to 16-bit PNGs, COCO annotations per split, error table and manifest."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.data.prepare import run

if __name__ == "__main__":
    run_tool(run)
