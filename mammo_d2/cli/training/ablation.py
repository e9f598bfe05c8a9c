"""The command ``ablation``: train variants of a config with several seeds and tabulate them."""

from pathlib import Path

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.cli.arguments.comparison_arguments import add_table_options, table_options
from mammo_d2.experiments.variant_runs import load_variants, run_ablation

DESCRIPTION = """Train a config in several variants and seeds; print tables.

First mean ± standard deviation over the seeds. Then, from the stored predictions, the mean and its difference to one of
the rows with intervals over the test patients, and how many patients it would take to tell the difference from 0.

Works with every config. Variants of the lesion classifier share one patch network per seed. Finished runs are kept and
interrupted runs continue; runs started with another config or other data are an error.

Examples:
    mammo-d2 ablation --config-file mammo_d2://quickstart/phantom_top_likelihood.yaml \\
        --variants mammo_d2://quickstart/ablation_top_likelihood.yaml --seeds 1 2 3 --output output/ablation
    mammo-d2 ablation --config-file mammo_d2://quickstart/phantom_lesion_context.yaml \\
        --variants mammo_d2://quickstart/ablation_lesion_context.yaml --seeds 1 2 3 --output output/ablation_lesion
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "ablation")
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--variants", required=True, help="YAML: row name → list of KEY, VALUE overrides")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--output", type=Path, required=True, help="finished runs of this config and data are kept")
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs, each on its own GPU if there are several")
    parser.add_argument(
        "--opts",
        nargs="*",
        default=[],
        help='KEY VALUE overrides for all runs; "{seed}" is the seed',
    )
    add_table_options(parser)
    args = parser.parse_args(argv)
    variants = load_variants(args.variants)
    run_ablation(args.config_file, variants, args.seeds, args.output, args.opts, args.jobs, table_options(args))
    print((args.output / "ablation.md").read_text(encoding="utf-8"), end="")
    return 0
