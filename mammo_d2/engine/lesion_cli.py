"""The command line of the lesion classifier's training: what tools/train_lesion.py and ``python -m`` run.

The context network is a trained GMIC, named by MODEL.LESION.CONTEXT_CONFIG and CONTEXT_WEIGHTS. --resume goes on with
an interrupted job at the stage and iteration where it was. Stages of another config or other data are then an error;
another MODEL.LESION.MAPS is not, as every combination has a folder of its own.

Examples:
    python tools/train_lesion.py --config-file configs/quickstart/phantom_lesion_context.yaml
    python tools/train_lesion.py --config-file ... --resume
    python tools/train_lesion.py --config-file ... --resume MODEL.LESION.MAPS "['saliency']"
    python tools/train_lesion.py --config-file ... --eval-only DATASETS.TEST "['mine_test']"
"""

from mammo_d2.cli import run_tool
from mammo_d2.engine.cli import launch_job
from mammo_d2.engine.lesion_stages import main
from mammo_d2.framework import default_argument_parser


def run(argv: list[str]) -> int:
    """Parse the arguments, start one process per GPU, run the job; the exit code."""
    parser = default_argument_parser(__doc__)
    parser.add_argument(
        "--shared-only",
        action="store_true",
        help="stop before the aggregation network: saliency, patch network and embeddings serve every combination",
    )
    launch_job(main, parser.parse_args(argv))
    return 0


if __name__ == "__main__":
    run_tool(run)
