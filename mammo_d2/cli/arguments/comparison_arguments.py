"""Arguments of the commands that compare rows of trainings."""

import argparse

from mammo_d2.experiments.comparison.paired_tables import TableOptions
from mammo_d2.experiments.comparison.row_statistics import RATES
from mammo_d2.experiments.cross_validation import FoldPlan


def add_fold_options(parser: argparse.ArgumentParser) -> None:
    """Add which folds are trained and tested, for ``fold_plan``."""
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument(
        "--only-folds", type=int, nargs="+", default=[], metavar="N",
        help="train and test these of the folds (from 0) for now; the others may follow in the same --output",
    )  # fmt: skip
    parser.add_argument("--no-validation", action="store_true", help="train on all folds but the test fold")


def fold_plan(args: argparse.Namespace, seed: int) -> FoldPlan:
    """The folds of ``args.dataset``."""
    return FoldPlan(args.dataset, args.folds, seed, not args.no_validation, tuple(args.only_folds))


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
