#!/usr/bin/env python3
"""Malignancy of given lesions with a trained lesion classifier, as COCO annotations."""

from mammo_d2.cli.classify_lesions import run
from mammo_d2.cli.common import run_tool

if __name__ == "__main__":
    run_tool(run)
