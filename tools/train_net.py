#!/usr/bin/env python3
"""Train or evaluate any method of the package from a YAML config.

Examples:
    python tools/train_net.py --config-file configs/quickstart/phantom_top_likelihood.yaml
    python tools/train_net.py --config-file ... --resume SOLVER.MAX_ITER 2000
    python tools/train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
"""

import sys

from mammo_d2.cli import run_tool
from mammo_d2.engine import main
from mammo_d2.framework import default_argument_parser, launch


def run(argv: list[str]) -> int:
    parser = default_argument_parser(__doc__)
    parser.add_argument(
        "--strict-weights", action="store_true", help="fail when MODEL.WEIGHTS lacks keys, or has unknown or misfit ones"
    )
    args = parser.parse_args(argv)
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_tool(run))
