"""The command ``compare``: any methods on the same patients, in one table and on one page with their images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mammo_d2.cli.arguments.command_line import make_parser
from mammo_d2.cli.arguments.comparison_arguments import add_fold_options, add_table_options, fold_plan, table_options
from mammo_d2.core.files import read_json
from mammo_d2.data.format.catalog import category_names, load_records, register_datasets
from mammo_d2.evaluation.files.results import LESION_SCORES_FILE, MAPS_FILE
from mammo_d2.evaluation.metrics.detection.matching import DISTANCE_KINDS, OVERLAP_KINDS, HitRule
from mammo_d2.experiments.cells import Cell
from mammo_d2.experiments.comparison.method_comparison import FROC, ComparedData, MethodComparison, compare_methods
from mammo_d2.experiments.comparison.method_costs import COST_COLUMNS, cells_of
from mammo_d2.experiments.comparison.method_rows import load_method_rows
from mammo_d2.experiments.comparison.row_statistics import ANY
from mammo_d2.report.html import Table
from mammo_d2.report.method_page import MethodColumn, write_method_page
from mammo_d2.report.viewer.viewer_block import MAX_IMAGES

DESCRIPTION = """Train and test any methods on the same patients; print one table and write a page with the images.

Rows come from a YAML file: row name → {config: FILE, opts: [KEY, VALUE, ...]}. "{weights:ROW}" in a value is the
file of the weights that another row ends with, of the same seed and fold; table: false leaves out a row that is trained
only for others to start from. Finished trainings are kept and interrupted ones continue; those started with another
config or other data are an error.

Examples:
    mammo-d2 compare --rows mammo_d2://quickstart/compare_phantom.yaml --dataset datasets/phantom --folds 5 \\
        --reference "Faster R-CNN" --output output/compare
    mammo-d2 compare --rows mammo_d2://quickstart/compare_phantom.yaml --train phantom_train --test phantom_test \\
        --seeds 1 2 3 --output output/compare_seeds
"""


def run(argv: list[str]) -> int:
    """Run the command; see ``--help``."""
    parser = make_parser(DESCRIPTION, "compare")
    parser.add_argument("--rows", required=True, help="YAML: row name → {config, opts, table}")
    parser.add_argument("--dataset", type=Path, help="folder of a prepared data set, for patient-wise folds")
    parser.add_argument("--fold-seed", type=int, default=0, help="seed of the folds")
    add_fold_options(parser)
    parser.add_argument(
        "--train", nargs="+", default=[], metavar="NAME", help="training sets (default: each config's own)"
    )
    parser.add_argument("--validation", nargs="+", default=[], metavar="NAME", help="sets on which weights are chosen")
    parser.add_argument("--test", default="", metavar="NAME", help="test set, in place of folds")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1], help="seeds of the training; rows are means over them"
    )
    parser.add_argument(
        "--output", type=Path, required=True, help="finished trainings of this config and data are kept"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="parallel trainings, each on its own GPU if there are several"
    )
    parser.add_argument(
        "--hit",
        default=FROC.hit.kind,
        choices=OVERLAP_KINDS + DISTANCE_KINDS,
        help="when a box hits a lesion, of all rows",
    )
    parser.add_argument("--threshold", type=float, default=0.5, help="of --hit, where it needs one")
    parser.add_argument("--pictures", type=int, default=MAX_IMAGES, help="most images on the page [%(default)s]")
    parser.add_argument("--opts", nargs="*", default=[], help='KEY VALUE overrides for all rows; "{seed}" is the seed')
    add_table_options(parser)
    args = parser.parse_args(argv)
    plan = fold_plan(args, args.fold_seed) if args.dataset else None
    data = ComparedData(plan, tuple(args.train), tuple(args.validation), args.test)
    froc = replace(FROC, hit=HitRule(args.hit, args.threshold))
    found = compare_methods(
        load_method_rows(args.rows), data, args.seeds, args.output, args.opts, args.jobs, table_options(args), froc
    )
    page = write_page(found, args.output / "compare.html", args.pictures)
    print(found.text)
    print(f"pictures: {page}")
    return 0


def write_page(found: MethodComparison, path: Path, limit: int) -> Path:
    """Write the page of a comparison; the pictures are of the first seed.

    Args:
        found: the comparison.
        path: the HTML file.
        limit: most images on the page.
    """
    by_row: dict[str, list[Cell]] = {}
    for cell in found.cells:
        of_row = by_row.setdefault(cell.row, [])
        if not of_row or cell.seed == of_row[0].seed:
            of_row.append(cell)
    reference = found.compared.reference
    rule = found.rules[reference]
    columns = [
        _column(name, cells, found)
        for name, cells in by_row.items()
        if rule.class_name != ANY and found.predictions[name]
    ]
    records = [record for cell in by_row[reference] for record in _records(cell, rule.class_name)]
    images = found.predictions[reference][0].images
    order = {record["image_id"]: record for record in records}
    costs = Table(["row", *COST_COLUMNS], [[name, *cells_of(cost)] for name, cost in found.costs.items()], "Cost")
    return write_method_page(
        path,
        f"Comparison of methods: {found.notes['data']}",
        found.compared,
        rule.headings(),
        costs,
        found.notes,
        [order[image_id] for image_id in images.ids] if columns else [],
        columns,
        rule.class_name,
        rule.froc,
        limit,
    )


def _records(cell: Cell, class_name: str) -> list[dict[str, Any]]:
    """Records of the tested data set with the annotations of one class."""
    register_datasets(cell.job.cfg)
    label = category_names(cell.job.cfg).index(class_name) if class_name != ANY else -1
    return [
        {**record, "annotations": [a for a in record["annotations"] if label in (-1, a["category_id"])]}
        for record in load_records(cell.job.cfg, cell.dataset)
    ]


def _column(name: str, cells: Sequence[Cell], found: MethodComparison) -> MethodColumn:
    """The first seed's predictions of a row."""
    predicted = found.predictions[name][0]
    label = predicted.images.classes.index(found.rules[name].class_name)
    folders = [cell.finished_metrics().parent for cell in cells]
    maps = [path if (path := folder / MAPS_FILE).is_file() else None for folder in folders]
    lesions: dict[Any, list[tuple[list[float], float]]] = {}
    for folder in folders:
        entries: list[Mapping[str, Any]] = []
        if (folder / LESION_SCORES_FILE).is_file():
            entries = read_json(folder / LESION_SCORES_FILE)
        for entry in entries:
            lesions.setdefault(entry["image_id"], []).append((entry["bbox"], entry["malignancy"]))
    scores = predicted.image_scores
    return MethodColumn(
        name,
        predicted.images.classes,
        label,
        predicted.boxes,
        None if scores is None else scores[:, label],
        [maps[fold] for fold in predicted.fold],
        lesions,
    )
