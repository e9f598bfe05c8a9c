#!/usr/bin/env python3
"""Evaluate result files of any detector or classifier against a COCO ground truth; no model is needed."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.evaluate import run

if __name__ == "__main__":
    run_tool(run)
