#!/usr/bin/env python3
"""Average the image scores of several runs, with a reader's if there is one, and evaluate each of them and the average.

Examples:
    python tools/average_scores.py output/run1 output/run2 --ground-truth datasets/mine/annotations/test.json
    python tools/average_scores.py --search output/search --top 5 --ground-truth test.json --output output/top5
    python tools/average_scores.py output/run1 --ground-truth test.json --reader reader.csv --reader-weight 0.5
"""

import sys

from mammo_d2.cli import run_tool
from mammo_d2.evaluation.average_command import run

if __name__ == "__main__":
    sys.exit(run_tool(run))
