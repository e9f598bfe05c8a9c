#!/usr/bin/env python3
"""Average the image scores of several runs, with a reader's if there is one, and evaluate them."""

import sys

from mammo_d2.cli import run_tool
from mammo_d2.evaluation.average_command import run

if __name__ == "__main__":
    sys.exit(run_tool(run))
