"""The command line of training: what tools/train_net.py and ``python -m mammo_d2.engine.cli`` run.

Examples:
    python tools/train_net.py --config-file configs/quickstart/phantom_top_likelihood.yaml
    python tools/train_net.py --config-file ... --resume SOLVER.MAX_ITER 2000
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
"""

import argparse
from collections.abc import Callable
from typing import Any

from mammo_d2.cli import run_tool
from mammo_d2.engine.main import main
from mammo_d2.framework import default_argument_parser, launch


def run(argv: list[str]) -> int:
    """Parse the arguments, start one process per GPU, train or evaluate; the exit code."""
    parser = default_argument_parser(__doc__)
    parser.add_argument(
        "--strict-weights",
        action="store_true",
        help="fail when MODEL.WEIGHTS lacks keys of the model, or has unknown or mis-shaped ones",
    )
    args = parser.parse_args(argv)
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
