"""The command line of training: what tools/train_net.py and ``python -m mammo_d2.cli.train`` run."""

import argparse
from collections.abc import Callable
from typing import Any

from mammo_d2.cli.common import run_tool, with_common_help
from mammo_d2.config.loading import load_config
from mammo_d2.experiments.processes import check_method
from mammo_d2.framework import default_argument_parser, launch
from mammo_d2.jobs.single_stage import main

DESCRIPTION = """Train, or evaluate, any method of the package but the lesion classifier from a YAML config.

Examples (the quickstart's head says how its data are made; a run's config.yaml is in its OUTPUT_DIR):
    python tools/train_net.py --config-file configs/quickstart/phantom_top_likelihood.yaml
    python tools/train_net.py --config-file output/phantom_top_likelihood/config.yaml --resume
    python tools/train_net.py --config-file output/phantom_top_likelihood/config.yaml --eval-only \\
        MODEL.WEIGHTS output/phantom_top_likelihood/model_final.pth
"""


def run(argv: list[str]) -> int:
    """Parse the arguments, start one process per GPU, train or evaluate; the exit code."""
    parser = with_common_help(default_argument_parser(), DESCRIPTION)
    parser.add_argument(
        "--strict-weights",
        action="store_true",
        help="fail when MODEL.WEIGHTS lacks keys of the model, or has unknown or mis-shaped ones",
    )
    args = parser.parse_args(argv)
    check_method(load_config(args.config_file, args.opts), lesion=False, instead="tools/train_lesion.py")
    launch_job(main, args)
    return 0


def launch_job(job: Callable[[argparse.Namespace], Any], args: argparse.Namespace) -> None:
    """Run ``job(args)`` in as many processes as the arguments of the framework's parser ask for."""
    launch(
        job,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )


if __name__ == "__main__":
    run_tool(run)
