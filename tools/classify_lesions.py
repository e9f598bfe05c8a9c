#!/usr/bin/env python3
"""Malignancy of given lesions with a trained lesion classifier, as COCO annotations."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.classify_lesions import run

if __name__ == "__main__":
    run_tool(run)
