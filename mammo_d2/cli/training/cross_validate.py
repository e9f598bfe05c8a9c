"""The command ``cross-validate``: patient-wise folds of a data set, and their table."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.cli.arguments.comparison_arguments import add_fold_options, add_table_options, fold_plan, table_options
from mammo_d2.experiments.cross_validation import cross_validate
from mammo_d2.experiments.fold_comparison import compare_variants
from mammo_d2.experiments.variant_runs import load_variants

DESCRIPTION = """Cross-validate a config on a prepared data set, split by patient; print tables.

First mean ± standard deviation over the folds. Then, from the stored predictions, values with intervals over the test
patients of all folds; with --variants also the differences to a row, and how many patients it would take to tell them
from 0.

All splits of the data set are joined and split again into folds. Finished folds are kept and interrupted folds
continue; folds started with another config or other data are an error.

Examples:
    mammo-d2 cross-validate --config-file mammo_d2://quickstart/phantom_deep_mil.yaml \\
        --dataset datasets/phantom --output output/cv_deep_mil --opts MODEL.DEEP_MIL.HEAD max
    mammo-d2 cross-validate --config-file mammo_d2://quickstart/phantom_deep_mil.yaml \\
        --dataset datasets/phantom --variants mammo_d2://quickstart/ablation_deep_mil.yaml --output output/deep_mil
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "cross-validate")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--dataset", type=Path, required=True, help="folder of a prepared data set")
    parser.add_argument("--seed", type=int, default=0, help="seed of the folds; the key SEED is that of the training")
    add_fold_options(parser)
    parser.add_argument("--output", type=Path, required=True, help="finished folds of this config and data are kept")
    parser.add_argument(
        "--jobs", type=int, default=1, help="folds trained in parallel, each on its own GPU if there are several"
    )
    parser.add_argument(
        "--variants",
        help='YAML: row name → list of KEY, VALUE overrides; all on the same folds; "{weights:ROW}" in a value is the '
        "file of another row's weights of the same fold",
    )
    parser.add_argument("--opts", nargs="*", default=[], help="KEY VALUE overrides for all folds")
    add_table_options(parser)
    args = parser.parse_args(argv)
    options = table_options(args)
    plan = fold_plan(args, args.seed)
    if args.variants:
        variants = load_variants(args.variants)
        print(compare_variants(args.config_file, variants, plan, args.output, args.opts, args.jobs, options))
        return 0
    cross_validate(args.config_file, plan, args.output, args.opts, args.jobs, options)
    print((args.output / "cross_validation.md").read_text(encoding="utf-8"), end="")
    print(f"pooled ROC: {args.output / 'roc.png'}, numbers in {args.output / 'pooled.json'}")
    return 0
