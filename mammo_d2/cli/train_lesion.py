"""The command line of the lesion classifier's training: what tools/train_lesion.py and ``python -m`` run."""

from mammo_d2.cli.common import run_tool, with_common_help
from mammo_d2.cli.train import launch_job
from mammo_d2.config.loading import load_config
from mammo_d2.experiments.processes import check_method
from mammo_d2.framework import default_argument_parser
from mammo_d2.jobs.lesion.lesion_job import main

DESCRIPTION = """Train the lesion classifier with global context: patch network, then aggregation network.

The context network is a trained GMIC, named by MODEL.LESION.CONTEXT_CONFIG and CONTEXT_WEIGHTS. --resume goes on with
an interrupted job at the stage and iteration where it was. Stages of another config or other data are then an error;
another MODEL.LESION.MAPS is not, as every combination has a folder of its own. What is trained is evaluated with
--eval-only, which needs no MODEL.WEIGHTS.

Examples (the quickstart's head says how its data and its context network are made):
    python tools/train_lesion.py --config-file configs/quickstart/phantom_lesion_context.yaml
    python tools/train_lesion.py --config-file configs/quickstart/phantom_lesion_context.yaml --resume
    python tools/train_lesion.py --config-file configs/quickstart/phantom_lesion_context.yaml --resume \\
        MODEL.LESION.MAPS "['saliency']"
    python tools/train_lesion.py --config-file configs/quickstart/phantom_lesion_context.yaml --eval-only \\
        DATASETS.TEST "['phantom_context_test']"
"""


def run(argv: list[str]) -> int:
    """Parse the arguments, start one process per GPU, run the job; the exit code."""
    parser = with_common_help(default_argument_parser(), DESCRIPTION)
    parser.add_argument(
        "--shared-only",
        action="store_true",
        help="stop before the aggregation network: saliency, patch network and embeddings serve every combination",
    )
    args = parser.parse_args(argv)
    check_method(load_config(args.config_file, args.opts), lesion=True, instead="tools/train_net.py")
    launch_job(main, args)
    return 0


if __name__ == "__main__":
    run_tool(run)
