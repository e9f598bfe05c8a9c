"""The command ``search``: hyper-parameter search on a validation set."""

import argparse
import signal
import sys
from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.experiments.search.search_loop import search
from mammo_d2.experiments.search.search_outcome import evaluate_top, trials_table
from mammo_d2.experiments.search.search_plan import PRUNERS, SAMPLERS, SearchPlan
from mammo_d2.experiments.search.search_ranges import load_ranges

DESCRIPTION = """Search hyper-parameters: train a config with values drawn from ranges, evaluated on a validation set.

Each trial is trained in a separate process. Repeat the command to continue an interrupted search; a higher --trials
extends a finished one. Another config, other ranges or other data are an error. The output folder has the trials
(search.md, .csv, .json), best.yaml (trains the best trial again) and top.json (the best trials, for average-scores
--search).

Examples (the heads of phantom_lesion_context.yaml and phantom_pretrain.yaml give the commands for the phantoms with a
validation set and for the initial weights):
    mammo-d2 search --config-file mammo_d2://gmic/GMIC.yaml --ranges mammo_d2://search/gmic.yaml --sampler random \\
        --trials 100 --validation mine_val --metric image/malignant/breast_auc --test mine_test \\
        --output output/search_gmic --opts DATASETS.TRAIN "['mine_train']"
    mammo-d2 search --config-file mammo_d2://quickstart/phantom_deep_mil.yaml \\
        --ranges mammo_d2://search/deep_mil.yaml --validation phantom_context_val --metric image/malignant/auc \\
        --trials 12 --jobs 2 --pruner median --output output/search_deep_mil \\
        --opts DATASETS.TRAIN "['phantom_context_train']" TEST.EVAL_PERIOD 100
    mammo-d2 search --config-file mammo_d2://quickstart/phantom_lesion_context.yaml \\
        --ranges mammo_d2://search/lesion_context.yaml --output output/search_lesion
"""


def parser() -> argparse.ArgumentParser:
    parser = make_parser(DESCRIPTION, "search")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--ranges", required=True, help="YAML: config key → {float: [low, high], log: true}, ...")
    parser.add_argument("--trials", type=int, default=20, help="total number, including existing trials")
    parser.add_argument("--jobs", type=int, default=1, help="parallel trials, each on its own GPU if there are several")
    parser.add_argument("--validation", help="data set of the metric; default: DATASETS.TEST of the config")
    parser.add_argument("--metric", default="", help="e.g. image/malignant/auc; default: TEST.BEST_METRIC")
    parser.add_argument("--mode", choices=("max", "min"), help="default: TEST.BEST_MODE")
    parser.add_argument("--sampler", choices=SAMPLERS, default="tpe", help="sampler of the values")
    parser.add_argument("--pruner", choices=PRUNERS, default="none", help="ends bad trials early")
    parser.add_argument("--prune-after", type=int, default=1, help="first evaluation at which a trial may be pruned")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the sampler; the key SEED is that of the trainings"
    )
    parser.add_argument("--top", type=int, default=5, help="number of best trials in top.json")
    parser.add_argument(
        "--test", default="", help="finally evaluate the best trials on this data set; default: on validation"
    )
    parser.add_argument("--keep-checkpoints", action="store_true", help="keep all checkpoints of finished trials")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder of the search; finished trials in it are kept"
    )
    parser.add_argument("--opts", nargs="*", default=[], help="KEY VALUE overrides for all trials")
    return parser


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    args = parser().parse_args(argv)
    # Trials run in separate process groups; on SIGTERM the search ends them.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    overrides = list(args.opts)
    if args.validation:
        overrides += ["DATASETS.TEST", repr((args.validation,))]
    plan = SearchPlan(
        config_file=args.config_file,
        ranges=load_ranges(args.ranges, args.config_file, overrides),
        output=args.output,
        overrides=overrides,
        metric=args.metric,
        mode=args.mode or "",
        sampler=args.sampler,
        pruner=args.pruner,
        prune_after=args.prune_after,
        seed=args.seed,
    ).complete()
    rows = search(plan, args.trials, args.jobs, args.top, args.keep_checkpoints)
    evaluate_top(plan, args.test, args.jobs)
    print(trials_table(rows, plan.metric))
    print(f"best config: {args.output / 'best.yaml'}, best trials: {args.output / 'top.json'}")
    return 0
