#!/usr/bin/env python3
"""Average the image scores of several runs, with a reader's if there is one, and evaluate them."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.average_scores import run

if __name__ == "__main__":
    run_tool(run)
