"""Variants of a config cross-validated on the same folds, side by side in tables."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.experiments.cells import Cell, predictions_by_row, run_cells, turns_of
from mammo_d2.experiments.comparison.paired_tables import TableOptions, as_text, write_comparison
from mammo_d2.experiments.cross_validation import (
    MEAN_WORDS,
    POOLED_WORDS,
    FoldPlan,
    fold_cells,
    read_fold,
    recorded_cells,
)
from mammo_d2.experiments.processes import mean_and_spread, write_tables
from mammo_d2.experiments.variant_runs import Variant

#: Columns of the table, as far as a row's evaluators fill them: heading → metric of a fold.
FOLD_COLUMNS = {
    "AUC": "image/{name}/auc",
    "breast AUC": "image/{name}/breast_auc",
    "pAUCR": "image/{name}/pauc_ratio",
    "spec@sens0.85": "image/{name}/spec@sens0.85",
    "accuracy": "image/{name}/accuracy",
    "sens@0.5": "froc/{name}/sens@0.5",
    "sens@1": "froc/{name}/sens@1",
    "sens@1, classified": "froc_classified/{name}/sens@1",
    "hit@1": "regions/{name}/hit@1",
    "hit@3": "regions/{name}/hit@3",
    "saliency F1": "saliency/{name}/f1",
    "pointing": "saliency/{name}/pointing",
}

_DEFAULT = TableOptions()


def compare_variants(
    config_file: str,
    variants: Sequence[Variant],
    plan: FoldPlan,
    output: Path,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    options: TableOptions = _DEFAULT,
) -> str:
    """Cross-validate every variant in its own folder; finished folds are kept as in ``cross_validate``.

    Args:
        config_file: the config that all variants start from.
        variants: the rows. In an override, "{weights:ROW}" is the file of the weights of another row of the same fold;
            that row comes first.
        plan: data and folds.
        output: folder; one sub-folder a variant, and ``comparison_<class>.md``, ``.csv``, ``.json``, and
            ``paired_<class>.json``.
        overrides: KEY VALUE overrides for all variants.
        jobs: number of folds run in parallel.
        options: what the tables show.

    Returns:
        The tables, with a heading each: mean ± standard deviation over the folds; then those of ``paired_tables.py``,
        on the test images of all folds together.

    Raises:
        ValueError: a class that the configs do not know, or no such reference.
        RunConflictError, ValueError: a variant's folder holds folds of another config, plan or data.
        ChildProcessError: a fold failed; its log is named.
    """
    turns = turns_of({variant.name: variant.overrides for variant in variants})
    cells: list[Cell] = []
    for variant in variants:
        folder = output / variant.folder
        if options.only_tables:
            cells += recorded_cells(variant.name, plan, folder)
        else:
            cells += fold_cells(variant.name, config_file, plan, folder, [*overrides, *variant.overrides])
    configs = {cell.row: cell.job.cfg for cell in cells}
    class_name = next(iter(options.rules(configs).values())).class_name
    if not options.only_tables:
        named = [replace(cell, title=f"{cell.title} of {cell.row!r}", turn=turns[cell.row]) for cell in cells]
        run_cells(named, output, jobs)
    rows = [{"variant": cell.row, **read_fold(cell)} for cell in cells]
    predicted = predictions_by_row(cells)
    tables = {f"Class {class_name}, mean ± standard deviation over the folds": comparison_table(rows, class_name)}
    tables |= write_comparison(predicted, configs, options, output, MEAN_WORDS if options.fold_means else POOLED_WORDS)
    table = as_text(tables)
    write_tables(rows, table, output, f"comparison_{class_name}")
    return table


def comparison_table(rows: Sequence[dict[str, Any]], class_name: str) -> str:
    """Mean ± standard deviation over the folds in which a metric is defined.

    Args:
        rows: one dict a fold, with its "variant".
        class_name: class of the columns.
    """
    keys = {heading: key.format(name=class_name) for heading, key in FOLD_COLUMNS.items()}
    columns = {heading: key for heading, key in keys.items() if any(key in row for row in rows)}
    lines = []
    for name in dict.fromkeys(row["variant"] for row in rows):
        found = [
            np.array([row[key] for row in rows if row["variant"] == name and key in row]) for key in columns.values()
        ]
        defined = [values[~np.isnan(values)] for values in found]
        lines.append([name, *(mean_and_spread(values) if len(values) else "" for values in defined)])
    return tabulate(lines, ["variant", *columns], tablefmt="github")
