"""Arguments of the commands that compare rows of trainings."""

import argparse

from mammo_d2.experiments.comparison.paired_tables import TableOptions
from mammo_d2.experiments.comparison.row_statistics import RATES


def add_table_options(parser: argparse.ArgumentParser) -> None:
    """Add what the tables show, for ``table_options``."""
    parser.add_argument(
        "--reference", default="", metavar="ROW", help="row to compare the others with (default: the first)"
    )
    parser.add_argument(
        "--class", dest="class_name", default="",
        help='class that is judged; "any" for all together (default: malignant if it is a class, else the first)',
    )  # fmt: skip
    parser.add_argument(
        "--rates", type=float, nargs="+", default=list(RATES), metavar="FP",
        help="false positives per image at which sensitivities are compared",
    )  # fmt: skip
    parser.add_argument(
        "--fold-means", action="store_true",
        help="with folds: compare the means over the folds, not the values of all folds together",
    )  # fmt: skip
    parser.add_argument(
        "--tables-only", action="store_true",
        help="train nothing: make the tables of finished runs again, by the config.yaml in their folders",
    )  # fmt: skip


def table_options(args: argparse.Namespace) -> TableOptions:
    """The options that were given."""
    return TableOptions(args.reference, args.class_name, tuple(args.rates), args.tables_only, args.fold_means)
