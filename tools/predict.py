#!/usr/bin/env python3
"""Find lesions in image files with a trained model; the files need no preparation."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.predict import run

if __name__ == "__main__":
    run_tool(run)
