#!/usr/bin/env python3
"""Measure the package on this machine: ratios between alternatives that alternate in one run.

With --profile it is the command mammo-d2 benchmark: the parts of the step of one training.

Examples:
    python tools/benchmark.py train --steps 8
    python tools/benchmark.py train --profile --config-file mammo_d2://quickstart/phantom_top_likelihood.yaml
    python tools/benchmark.py prepare --images 40 --max-side 800
    python tools/benchmark.py records --images 10000 100000
    python tools/benchmark.py evaluation --images 10000 100000
    python tools/benchmark.py gmic --rounds 3
    python tools/benchmark.py lesion --networks densenet121 densenet161
    python tools/benchmark.py regions
    python tools/benchmark.py gpu --tiny --output /tmp/gpu.json
    python tools/benchmark.py coverage --studies 200
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is beside the package, not in it

from benchmarks import coverage, evaluation, gmic, gpu, lesion, pixel_formats, prepare, records, regions, train
from mammo_d2.cli.arguments.command_line import make_parser, run_tool
from mammo_d2.cli.training.benchmark import PROFILE_FLAG
from mammo_d2.cli.training.benchmark import run as profile


def run(argv: list[str]) -> int:
    if PROFILE_FLAG in argv:
        return profile(argv)
    parser = make_parser(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module, text in [
        ("train", train, "seconds per training step and peak memory, by engine and setting"),
        ("gmic", gmic, "GMIC at full resolution: inference seconds by setting, peak memory of inference and training"),
        ("gpu", gpu, "full-size training on a GPU: images a second, memory, losses by precision; docs/gpu.md"),
        ("regions", regions, "dual branch: shared region features, their cache, peak memory of a training step"),
        ("lesion", lesion, "the lesion classifier: patches per second and memory of an epoch, windows of a lesion"),
        ("prepare", prepare, "preparing a data set: images a second by transfer syntax, memory over many images"),
        ("pixels", pixel_formats, "formats of prepared pixels on your own images: encode, decode, a window, bytes"),
        ("records", records, "from an annotation file to the first batch: seconds, memory; with and without a store"),
        ("evaluation", evaluation, "FROC, bootstrap and COCO AP of up to a million images: seconds, memory"),
        ("coverage", coverage, "how often confidence intervals hold the true value, by simulation"),
    ]:
        command = commands.add_parser(name, help=text)
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    run_tool(run)
