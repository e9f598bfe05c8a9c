"""Any methods, trained and tested on the same patients, in one table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tabulate import tabulate

from mammo_d2.config.loading import load_config
from mammo_d2.engine.evaluator_check import evaluators_of_predictions
from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.row_comparison import ComparedRows
from mammo_d2.experiments.cells import Cell, predictions_by_row, recorded_job, run_cells, turns_of
from mammo_d2.experiments.comparison.method_costs import COST_COLUMNS, RowCost, cells_of, row_cost
from mammo_d2.experiments.comparison.method_rows import MethodRow
from mammo_d2.experiments.comparison.paired_tables import (
    TableOptions,
    as_text,
    compare_predictions,
    paired_tables,
    write_paired,
)
from mammo_d2.experiments.comparison.predictions import Predictions
from mammo_d2.experiments.comparison.row_statistics import RowRule
from mammo_d2.experiments.cross_validation import FoldPlan, fold_cells, recorded_cells
from mammo_d2.experiments.processes import write_tables
from mammo_d2.jobs.job import build_job

#: One hit rule for boxes of all kinds: boxes of saliency maps and windows are too coarse for an overlap.
FROC = FrocRule(hit=HitRule("center_in_box"))

_DEFAULT = TableOptions()


@dataclass(frozen=True)
class ComparedData:
    """Folds of a data set, or fixed data sets.

    Attributes:
        folds: data set and folds; None: the data sets below.
        train: registered names; empty: each config's own.
        validation: on which weights are chosen, where a config does that; empty: nothing is chosen.
        test: registered name.
    """

    folds: FoldPlan | None = None
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: str = ""

    def __post_init__(self) -> None:
        if (self.folds is None) == (not self.test):
            raise ValueError("name either a data set for folds (--dataset), or a data set for the test (--test)")

    def __str__(self) -> str:
        return self.test if self.folds is None else str(self.folds)


@dataclass(frozen=True)
class MethodComparison:
    """A finished comparison.

    Attributes:
        compared: the numbers.
        rules: how the rows were judged.
        predictions: of each row, one entry per seed.
        cells: of the rows in the table.
        costs: of the rows in the table.
        text: all tables as Markdown.
        notes: how it was made, in words.
    """

    compared: ComparedRows
    rules: Mapping[str, RowRule]
    predictions: Mapping[str, Sequence[Predictions]]
    cells: Sequence[Cell]
    costs: Mapping[str, RowCost]
    text: str
    notes: Mapping[str, str]


def compare_methods(
    rows: Sequence[MethodRow],
    data: ComparedData,
    seeds: Sequence[int],
    output: Path,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    options: TableOptions = _DEFAULT,
    froc: FrocRule = FROC,
) -> MethodComparison:
    """Train and test every row on the same data, and compare them.

    Finished trainings and tests are kept and interrupted ones resumed, as long as config and data have not changed.

    Args:
        rows: the methods.
        data: what they are trained and tested on.
        seeds: values of SEED; a row is the mean over them.
        output: folder; ``<row>/seed<n>/fold<k>/train`` and ``test`` (without folds ``<row>/seed<n>/train`` and
            ``test``), and ``compare.md``, ``.csv``, ``.json`` (a line per row and metric) and ``paired_<class>.json``.
        overrides: KEY VALUE overrides for all rows; "{seed}" in a value, here or in a row's, is the seed.
        jobs: trainings at the same time, see ``run_job``.
        options: what the tables show.
        froc: when a box is a hit, for all rows.

    Raises:
        ValueError: a class that a row does not know, no such reference, or no row in the table.
        RunConflictError: a folder holds a run of another config or other data.
        ChildProcessError: a training or test failed; its log is named.
    """
    turns = turns_of({row.name: row.overrides for row in rows})
    cells = [
        replace(cell, turn=turns[row.name], is_tested=row.in_table)
        for row in rows
        for seed in seeds
        for cell in _cells(row, data, seed, output, overrides, options.only_tables)
    ]
    shown = [row.name for row in rows if row.in_table]
    if not shown:
        raise ValueError("no row is in the table; leave out table: false of one of them")
    configs = {name: next(cell for cell in cells if cell.row == name).job.cfg for name in shown}
    rules = {
        name: replace(rule, froc=froc, all_methods=True) for name, rule in options.rules(configs).items()
    }  # a wrong option is an error before hours of training
    if not options.only_tables:
        run_cells(cells, output, jobs)
    cells = [cell for cell in cells if cell.row in shown]
    predicted = predictions_by_row(cells, by_finding=True)
    compared = compare_predictions(predicted, rules, options.reference, fold_means=options.fold_means)
    if compared is None:
        raise ValueError(f"{output}: no test has left predictions; name evaluators of them in TEST.EVALUATORS")
    costs = {name: row_cost([cell for cell in cells if cell.row == name]) for name in shown}
    rule = rules[compared.reference]
    notes = {
        "data": str(data),
        "class": rule.class_name,
        "froc": str(replace(froc, rates=rule.rates)),
        "rules": (
            "An image without image scores has its highest box score, 0 without a box. Boxes of all methods are judged "
            "alike. Pointing game: the maximum of the map, or else the centre of the best box, lies in a lesion. "
            "Lesion AUC: every annotated box is a case, with the lesion classifier's score or else the highest score "
            "of a box that hits it."
        ),
    }
    units = "Values" if len(seeds) == 1 else f"Mean over {len(seeds)} seeds"
    if data.folds is not None:
        units += ", mean over the folds" if options.fold_means else ", all folds together"
    tables = paired_tables(compared, rule.headings(), units)
    kind = "GPU memory" if any(cost.on_gpu for cost in costs.values()) else "memory of the process"
    lines = [[name, *cells_of(cost)] for name, cost in costs.items()]
    tables[f"Cost: mean of a training and of an image, largest {kind}"] = tabulate(
        lines, ["row", *COST_COLUMNS], tablefmt="github", disable_numparse=True
    )
    text = "\n\n".join(
        [f"Data: {notes['data']}. Class: {notes['class']}.", as_text(tables), notes["rules"], notes["froc"]]
    )
    write_tables(_lines(compared), text, output, "compare")
    named_costs = {name: vars(cost) for name, cost in costs.items()}
    write_paired(compared, output / f"paired_{rule.class_name}.json", {**notes, "costs": named_costs})
    return MethodComparison(compared, rules, predicted, cells, costs, text, notes)


def _cells(
    row: MethodRow, data: ComparedData, seed: int, output: Path, overrides: Sequence[str], is_recorded: bool
) -> list[Cell]:
    """Cells of a row with one seed; ``is_recorded``: by the ``config.yaml`` in their folders."""
    folder = output / row.folder / f"seed{seed}"
    settings = [item.replace("{seed}", str(seed)) for item in (*overrides, *row.overrides, "SEED", str(seed))]
    title = f"{row.name!r} with seed {seed}"
    if is_recorded:
        if data.folds is not None:
            return recorded_cells(row.name, data.folds, folder, seed)
        job = recorded_job(folder / "train", folder / "test")
        return [Cell(row.name, seed, None, title, folder / "train", "", [], job, folder / "test", [], data.test)]
    keeping = ["TEST.EVALUATORS", repr(evaluators_of_predictions(load_config(row.config, settings)))]
    if data.folds is not None:
        made = fold_cells(row.name, row.config, data.folds, folder, settings, seed, keeping)
        return [replace(cell, title=f"{title}, {cell.title}", shares=True) for cell in made]
    common = [*settings, *(["DATASETS.TRAIN", repr(data.train)] if data.train else [])]
    choice = [] if data.validation else ["TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0", "TEST.EVAL_EPOCHS", "0"]
    own_test = build_job(load_config(row.config, settings)).overrides_of_test(data.test)
    training = [*common, *choice, "DATASETS.TEST", repr(data.validation or (data.test,)), *own_test]
    test = [*common, "DATASETS.TEST", repr((data.test,)), *keeping]
    job = build_job(load_config(row.config, training))
    return [
        Cell(
            row.name, seed, None, title, folder / "train", row.config, training, job, folder / "test", test, data.test,
            record=folder,
        )
    ]  # fmt: skip


def _lines(compared: ComparedRows) -> list[dict[str, object]]:
    """One dict per row and metric; without the difference where there is none."""
    lines = []
    for name, found in compared.metrics.items():
        for metric, value in found.items():
            line: dict[str, object] = {"row": name, "metric": metric, "value": value.value}
            line |= {"low": value.interval.low, "high": value.interval.high}
            difference = compared.differences.get(name, {}).get(metric)
            if difference is not None:
                pair = difference.comparison
                line |= {"difference": pair.difference, "difference_low": pair.low, "difference_high": pair.high}
                line |= {"p": pair.p, "patients_needed": difference.patients_needed}
            lines.append(line)
    return lines
