#!/usr/bin/env python3
"""Train a config in several variants and seeds; print one table: mean ± standard deviation over seeds."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.ablation import run

if __name__ == "__main__":
    run_tool(run)
