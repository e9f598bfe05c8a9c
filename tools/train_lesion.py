#!/usr/bin/env python3
"""Train the lesion classifier with global context: saliency, patch network, embeddings, aggregation network."""

from mammo_d2.cli.common import run_tool
from mammo_d2.cli.train_lesion import run

if __name__ == "__main__":
    run_tool(run)
