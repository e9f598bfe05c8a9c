"""Variants of a config cross-validated on the same folds, side by side in tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.experiments.comparison.paired_tables import TableOptions, as_text, write_comparison
from mammo_d2.experiments.cross_validation import (
    POOLED_WORDS,
    FoldPlan,
    job_of_folds,
    pooled_predictions,
    prepare_folds,
    train_folds,
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
        variants: the rows.
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
    settings = {variant.name: [*overrides, *variant.overrides] for variant in variants}
    folders = {variant.name: output / variant.folder for variant in variants}
    found = {name: job_of_folds(config_file, folders[name], words, options) for name, words in settings.items()}
    configs = {name: job.cfg for name, job in found.items()}
    class_name = next(iter(options.rules(configs).values())).class_name
    if not options.only_tables:
        for name, words in settings.items():  # all are checked before the first training
            prepare_folds(config_file, plan, folders[name], words)
    rows = []
    for name, words in settings.items():
        folds = train_folds(config_file, plan, folders[name], words, jobs, options)
        rows += [{"variant": name, **fold} for fold in folds]
    pooled = {name: pooled_predictions(plan, folders[name], job) for name, job in found.items()}
    predicted = {name: [one] if one is not None else [] for name, one in pooled.items()}
    tables = {f"Class {class_name}, mean ± standard deviation over the folds": comparison_table(rows, class_name)}
    tables |= write_comparison(predicted, configs, options, output, POOLED_WORDS)
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
