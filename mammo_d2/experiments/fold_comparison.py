"""Variants of a config cross-validated on the same folds, side by side in tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats
from tabulate import tabulate

from mammo_d2.config.loading import load_config
from mammo_d2.data.format.catalog import category_names
from mammo_d2.evaluation.metrics.scores.delong import delong_interval, delong_test
from mammo_d2.experiments.cross_validation import FoldPlan, PooledScores, cross_validate, pooled_scores, prepare_folds
from mammo_d2.experiments.processes import mean_and_spread, write_tables
from mammo_d2.experiments.variant_runs import Variant
from mammo_d2.jobs.job import build_job

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


def compare_variants(
    config_file: str,
    variants: Sequence[Variant],
    plan: FoldPlan,
    output: Path,
    class_name: str,
    overrides: Sequence[str] = (),
    jobs: int = 1,
) -> str:
    """Cross-validate every variant in its own folder; finished folds are kept as in ``cross_validate``.

    Args:
        config_file: the config that all variants start from.
        variants: the rows; the pooled AUC of each is compared with the first one's.
        plan: data and folds.
        output: folder; one sub-folder a variant, and ``comparison_<class>.md``, ``.csv``, ``.json``.
        class_name: class of the columns; "any" for all classes together.
        overrides: KEY VALUE overrides for all variants.
        jobs: number of folds run in parallel.

    Returns:
        The tables, with a heading each. First: mean ± standard deviation over the folds; AUC of all test images
        together with its 95 % interval (DeLong, grouped by patient); its difference to the first row's,
        with interval. Then ``interval_tables``.

    Raises:
        ValueError: a class that the configs do not know.
        RunConflictError, ValueError: a variant's folder holds folds of another config, plan or data.
        ChildProcessError: a fold failed; its log is named.
    """
    found = [build_job(load_config(config_file, [*overrides, *variant.overrides])) for variant in variants]
    for variant, job in zip(variants, found, strict=True):
        known = category_names(job.cfg)
        known += ["any"] if len(known) > 1 else []
        if class_name not in known:
            raise ValueError(f"--class {class_name!r}: variant {variant.name!r} knows {', '.join(known)}")
    for variant in variants:  # all are checked before the first training
        prepare_folds(config_file, plan, output / variant.folder, [*overrides, *variant.overrides])
    rows, pooled = [], []
    for variant, job in zip(variants, found, strict=True):
        folder = output / variant.folder
        folds = cross_validate(config_file, plan, folder, [*overrides, *variant.overrides], jobs)
        rows += [{"variant": variant.name, **fold} for fold in folds]
        pooled.append(pooled_scores(plan, folder, job))
    names = [variant.name for variant in variants]
    tables = {f"Class {class_name}": comparison_table(rows, names, pooled, class_name)}
    tables |= interval_tables(rows, names, class_name)
    table = "\n\n".join(f"{heading}:\n\n{text}" for heading, text in tables.items())
    write_tables(rows, table, output, f"comparison_{class_name}")
    return table


def comparison_table(
    rows: Sequence[dict[str, Any]], names: Sequence[str], pooled: Sequence[PooledScores | None], class_name: str
) -> str:
    """See ``compare_variants``.

    Args:
        rows: one dict a fold, with its "variant".
        names: of the variants, in order.
        pooled: scores of each variant's test images; None without image scores.
        class_name: class of the columns.
    """
    columns = _columns(rows, class_name)
    lines = []
    for name, scores in zip(names, pooled, strict=True):
        found = [_of_folds(rows, name, key) for key in columns.values()]
        defined = [values[~np.isnan(values)] for values in found]
        cells = [mean_and_spread(values) if len(values) else "" for values in defined]
        lines.append([name, *cells, *_pooled_cells(scores, pooled[0], class_name)])
    headings = ["variant", *columns, "pooled AUC, 95 % CI", f"against {names[0]}"]
    return tabulate(lines, headings, tablefmt="github")


def interval_tables(rows: Sequence[dict[str, Any]], names: Sequence[str], class_name: str) -> dict[str, str]:
    """95 % confidence intervals of every column's mean, and of its paired difference to the first row's.

    Student's t over the folds. Trainings of different folds share most of their images, so these intervals are somewhat
    too narrow; for metrics that cannot be pooled over models there are no others.

    Args:
        rows, names, class_name: see ``comparison_table``.

    Returns:
        Table by heading.
    """
    columns = _columns(rows, class_name)
    means, differences = [], []
    for name in names:
        found = [_of_folds(rows, name, key) for key in columns.values()]
        means.append([name, *map(_t_interval, found)])
        firsts = [_of_folds(rows, names[0], key) for key in columns.values()]
        pairs = zip(found, firsts, strict=True)
        cells = [_t_interval(values - first, "+") if len(values) and len(first) else "" for values, first in pairs]
        differences.append([name, *cells])
    headings = ["variant", *columns]
    return {
        "Mean over the folds (95 % CI)": tabulate(means, headings, tablefmt="github"),
        f"Difference to {names[0]} (95 % CI, paired by fold)": tabulate(differences[1:], headings, tablefmt="github"),
    }


def _columns(rows: Sequence[dict[str, Any]], class_name: str) -> dict[str, str]:
    """The columns of ``FOLD_COLUMNS`` that a row has: heading → key."""
    keys = {heading: key.format(name=class_name) for heading, key in FOLD_COLUMNS.items()}
    return {heading: key for heading, key in keys.items() if any(key in row for row in rows)}


def _of_folds(rows: Sequence[dict[str, Any]], name: str, key: str) -> np.ndarray:
    """A metric in each fold of a variant, NaN where it is undefined; empty without the metric."""
    return np.array([row[key] for row in rows if row["variant"] == name and key in row], float)


def _t_interval(values: np.ndarray, sign: str = "") -> str:
    """Mean with interval of the values that are defined; a single value has no interval."""
    values = values[~np.isnan(values)]
    if not len(values):
        return ""
    mean = float(values.mean())
    if len(values) < 2:
        return f"{mean:{sign}.3f}"
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return f"{mean:{sign}.3f} ({mean - half:{sign}.3f} to {mean + half:{sign}.3f})"


def _pooled_cells(scores: PooledScores | None, first: PooledScores | None, class_name: str) -> list[str]:
    if scores is None:
        return ["", ""]
    cases = scores.cases(class_name, "image")
    interval = delong_interval(cases.truth, cases.scores, cases.patient)
    cells = [f"{interval.auc:.3f} ({interval.low:.3f} to {interval.high:.3f})", ""]
    if first is not None and first is not scores:
        other = first.cases(class_name, "image")
        test = delong_test(cases.truth, cases.scores, other.scores, cases.patient)
        cells[1] = f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})"
    return cells
