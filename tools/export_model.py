#!/usr/bin/env python3
"""Write a trained model as ONNX or TorchScript."""

from mammo_d2.cli.arguments.command_line import run_tool
from mammo_d2.cli.training.export_model import run

if __name__ == "__main__":
    run_tool(run)
