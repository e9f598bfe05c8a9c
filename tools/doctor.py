#!/usr/bin/env python3
"""What this installation can do, and what is wrong with it."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.installation.doctor import run

if __name__ == "__main__":
    run_tool(run)
