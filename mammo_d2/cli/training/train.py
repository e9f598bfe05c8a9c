"""The command ``train``: train or evaluate any method from its config."""

from mammo_d2.cli.arguments.command_line import run_tool, with_common_help
from mammo_d2.config.loading import load_config
from mammo_d2.core.processes.parent_process import stop_with_starter
from mammo_d2.framework import default_argument_parser, launch
from mammo_d2.jobs.job import build_job, main

DESCRIPTION = """Train, or evaluate, any method of the package from a YAML config.

Examples (the quickstart's head says how its data are made; a run's config.yaml is in its OUTPUT_DIR):
    mammo-d2 train --config-file mammo_d2://quickstart/phantom_top_likelihood.yaml
    mammo-d2 train --config-file output/phantom_top_likelihood/config.yaml --resume
    mammo-d2 train --config-file output/phantom_top_likelihood/config.yaml --eval-only \\
        MODEL.WEIGHTS output/phantom_top_likelihood/model_final.pth

Label assignment (deep MIL; JOB TwoStageJob) is trained twice: with FIRST_STAGE.OVERRIDES, in OUTPUT_DIR/first_stage,
then as the config says from the result of that, in OUTPUT_DIR. --resume goes on where the job was interrupted.
    mammo-d2 train --config-file mammo_d2://deep_mil/AlexNet_label_assignment.yaml \\
        DATASETS.TRAIN "['mine_train']" DATASETS.TEST "['mine_val']"

The lesion classifier (JOB LesionContextJob) is trained in stages: patch network, then aggregation network. Its context
network is a trained GMIC, named by MODEL.LESION.CONTEXT_CONFIG and CONTEXT_WEIGHTS. --resume goes on at the stage and
iteration where the job was interrupted. Stages of another config or other data are then an error; another
MODEL.LESION.MAPS is not, as every combination has a folder of its own. --eval-only evaluates what is in OUTPUT_DIR and
needs no MODEL.WEIGHTS.
    mammo-d2 train --config-file mammo_d2://quickstart/phantom_lesion_context.yaml
    mammo-d2 train --config-file mammo_d2://quickstart/phantom_lesion_context.yaml --resume \\
        MODEL.LESION.MAPS "['saliency']"
    mammo-d2 train --config-file mammo_d2://quickstart/phantom_lesion_context.yaml --eval-only \\
        DATASETS.TEST "['phantom_context_test']"
"""


def run(argv: list[str]) -> int:
    """Parse the arguments, start one process per GPU, train or evaluate; the exit code."""
    parser = with_common_help(default_argument_parser(), DESCRIPTION, "train")
    parser.add_argument(
        "--strict-weights",
        action="store_true",
        help="fail when MODEL.WEIGHTS lacks keys of the model, or has unknown or mis-shaped ones",
    )
    parser.add_argument(
        "--shared-only",
        action="store_true",
        help="make only what several runs share: the lesion classifier's saliency, patch network and embeddings, which "
        "serve every combination of maps",
    )
    args = parser.parse_args(argv)
    stop_with_starter()
    # What is wrong with the job is an error before anything is started or written.
    job = build_job(load_config(args.config_file, args.opts))
    if args.shared_only and not job.can_share:
        raise ValueError(f"--shared-only: runs of JOB {job.cfg.JOB} share nothing; leave it out")
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
    run_tool(run)
