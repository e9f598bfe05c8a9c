#!/usr/bin/env python3
"""Write predictions as DICOM objects that refer to the images: reports, presentation states, segmentations."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.results.export_dicom import run

if __name__ == "__main__":
    run_tool(run)
