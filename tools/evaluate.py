#!/usr/bin/env python3
"""Evaluate result files of any detector or classifier against a COCO ground truth; no model is needed."""

from mammo_d2.cli import evaluate
from mammo_d2.cli.common import run_tool
from mammo_d2.evaluation.files.predicted_files import read_predicted


def run(argv: list[str]) -> int:
    return evaluate.run(argv, read_predicted)


if __name__ == "__main__":
    run_tool(run)
