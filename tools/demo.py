#!/usr/bin/env python3
"""From phantom mammograms (DICOM) to an evaluated detector: preparation, training, evaluation, report."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.installation.demo import run

if __name__ == "__main__":
    run_tool(run)
