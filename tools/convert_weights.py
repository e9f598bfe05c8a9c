#!/usr/bin/env python3
"""Convert checkpoints of other programs to this package's parameter names."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.convert_weights import run

if __name__ == "__main__":
    run_tool(run)
