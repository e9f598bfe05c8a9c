#!/usr/bin/env python3
"""Evaluate result files of any detector or classifier against a COCO ground truth; no model is needed."""

import sys

from mammo_d2.cli import run_tool
from mammo_d2.evaluation.command import run

if __name__ == "__main__":
    sys.exit(run_tool(run))
