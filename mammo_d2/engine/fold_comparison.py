"""Variants of a config cross-validated on the same folds, side by side in one table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from mammo_d2.data.catalog import category_names
from mammo_d2.engine.ablation import Variant
from mammo_d2.engine.cross_validation import Plan, PooledScores, cross_validate, pooled_scores, prepare_folds
from mammo_d2.engine.jobs import mean_and_spread, write_tables
from mammo_d2.engine.setup import load_config
from mammo_d2.evaluation.delong import delong_interval, delong_test

#: Columns of the table, as far as a row's evaluators fill them: heading → metric of a fold.
METRICS = {
    "AUC": "image/{name}/auc",
    "pAUCR": "image/{name}/pauc_ratio",
    "spec@sens0.85": "image/{name}/spec@sens0.85",
    "accuracy": "image/{name}/accuracy",
    "sens@0.5": "froc/{name}/sens@0.5",
    "sens@1": "froc/{name}/sens@1",
    "hit@1": "regions/{name}/hit@1",
    "hit@3": "regions/{name}/hit@3",
    "saliency F1": "saliency/{name}/f1",
    "pointing": "saliency/{name}/pointing",
}


def compare_variants(
    config_file: str,
    variants: Sequence[Variant],
    plan: Plan,
    output: Path,
    class_name: str,
    overrides: Sequence[str] = (),
    jobs: int = 1,
) -> str:
    """Cross-validate every variant, each in a folder of its own; what is finished is kept as in ``cross_validate``.

    Args:
        config_file: the config that all variants start from.
        variants: the rows; the pooled AUC of each is compared with the first one's.
        plan: data and folds.
        output: folder; one sub-folder a variant, and ``comparison_<class>.md``, ``.csv``, ``.json``.
        class_name: class of the columns; "any" for all classes together.
        overrides: KEY VALUE overrides for all variants.
        jobs: folds at the same time.

    Returns:
        The table: mean ± standard deviation over the folds; AUC of all test images together with its 95 % interval
        (DeLong, images of a patient taken together); its difference to the first row's, with interval.

    Raises:
        ValueError: a class that the configs do not know.
        RunConflictError, ValueError: a variant's folder holds folds of another config, plan or data.
        ChildProcessError: a fold failed; its log is named.
    """
    configs = [load_config(config_file, [*overrides, *variant.overrides]) for variant in variants]
    for variant, cfg in zip(variants, configs, strict=True):
        known = category_names(cfg)
        known += ["any"] if len(known) > 1 else []
        if class_name not in known:
            raise ValueError(f"--class {class_name!r}: variant {variant.name!r} knows {', '.join(known)}")
    for variant in variants:  # every one is checked before the first one is trained
        prepare_folds(config_file, plan, output / variant.folder, [*overrides, *variant.overrides])
    rows, pooled = [], []
    for variant, cfg in zip(variants, configs, strict=True):
        folder = output / variant.folder
        folds = cross_validate(config_file, plan, folder, [*overrides, *variant.overrides], jobs)
        rows += [{"variant": variant.name, **fold} for fold in folds]
        pooled.append(pooled_scores(plan, folder, cfg))
    table = comparison_table(rows, [variant.name for variant in variants], pooled, class_name)
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
    keys = {heading: key.format(name=class_name) for heading, key in METRICS.items()}
    columns = {heading: key for heading, key in keys.items() if any(key in row for row in rows)}
    lines = []
    for name, scores in zip(names, pooled, strict=True):
        line = [name]
        for key in columns.values():
            values = [row[key] for row in rows if row["variant"] == name and not np.isnan(row.get(key, np.nan))]
            line.append(mean_and_spread(values) if values else "")
        lines.append([*line, *_pooled_cells(scores, pooled[0], class_name)])
    headings = ["variant", *columns, "pooled AUC, 95 % CI", f"against {names[0]}"]
    return tabulate(lines, headings, tablefmt="github")


def _pooled_cells(scores: PooledScores | None, first: PooledScores | None, class_name: str) -> list[str]:
    if scores is None:
        return ["", ""]
    cases = scores.cases(class_name, "image")
    own = delong_interval(cases.truth, cases.scores, cases.patient)
    cells = [f"{own.auc:.3f} ({own.low:.3f} to {own.high:.3f})", ""]
    if first is not None and first is not scores:
        other = first.cases(class_name, "image")
        test = delong_test(cases.truth, cases.scores, other.scores, cases.patient)
        cells[1] = f"{test.difference:+.3f} ({test.low:+.3f} to {test.high:+.3f})"
    return cells
