"""Patient-wise cross-validation: one config trained and tested on every fold, as one table and one pooled ROC curve.

Fold i of K: part i is the test set, part i + 1 the validation set (whose metric chooses ``model_best.pth``, with
TEST.BEST_METRIC), the others are for training. Every image is tested exactly once.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mammo_d2.config.loading import load_config
from mammo_d2.core.files import read_json, sha256_bytes, write_json
from mammo_d2.core.image_truth import stratum_of
from mammo_d2.data.format.annotations import load_coco
from mammo_d2.data.prepare.splits import group_images, make_folds
from mammo_d2.evaluation.metrics.scores.curves import roc_curve, score_table
from mammo_d2.evaluation.metrics.scores.delong import delong_interval
from mammo_d2.evaluation.metrics.scores.levels import combine_truth, level_cases
from mammo_d2.evaluation.study.plots import PlotCurve, plot_roc
from mammo_d2.experiments.cells import Cell, predictions_by_row, recorded_job, rows_named, run_cells
from mammo_d2.experiments.comparison.paired_tables import TableOptions, as_text, write_comparison
from mammo_d2.experiments.comparison.predictions import Predictions
from mammo_d2.experiments.comparison.row_statistics import ANY
from mammo_d2.experiments.processes import read_metrics, summary_table, write_tables
from mammo_d2.jobs.job import Job, build_job

FOLDS_FILE = "folds.json"
#: Name of the only row of a table, and what its values are of.
WHOLE, POOLED_WORDS, MEAN_WORDS = "all folds", "All folds together", "Mean over the folds"

_DEFAULT = TableOptions()


@dataclass(frozen=True)
class FoldPlan:
    """What is cross-validated.

    Attributes:
        dataset: folder of a prepared data set; all its splits are joined and dealt out anew.
        folds: K.
        seed: of the folds.
        validation: keep a part for validation; otherwise K - 1 parts are for training.
        only: numbers of the folds that are trained and tested; empty: all. The parts stay those of all K folds, so that
            the others can follow later.
    """

    dataset: Path
    folds: int = 5
    seed: int = 0
    validation: bool = True
    only: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.folds < 2 + self.validation:
            raise ValueError(
                f"{self.folds} folds leave nothing to train on: training{', validation' * self.validation} and test "
                f"need at least {2 + self.validation}"
            )
        for fold in self.only:
            if fold not in range(self.folds) or self.only.count(fold) > 1:
                raise ValueError(f"--only-folds {fold}: the folds are 0 to {self.folds - 1}, each named once")

    def __str__(self) -> str:
        chosen = f"fold {', '.join(map(str, self.only))} of " if self.only else ""
        return f"{self.dataset.name}, {chosen}{self.folds} patient-wise folds (seed {self.seed})"

    @property
    def numbers(self) -> Sequence[int]:
        """Numbers of the folds that are trained and tested."""
        return self.only or range(self.folds)

    def parts(self, fold: int) -> dict[str, list[int]]:
        """Part numbers of each split of one fold."""
        held_out = {"test": [fold]}
        if self.validation:
            held_out["val"] = [(fold + 1) % self.folds]
        used = [part for parts in held_out.values() for part in parts]
        return {"train": [part for part in range(self.folds) if part not in used], **held_out}


def join_splits(dataset: Path) -> dict[str, Any]:
    """All splits of a prepared data set as one COCO dict, images and annotations numbered anew.

    Raises:
        FileNotFoundError: no annotation file.
        ValueError: files with different categories.
    """
    files = sorted((dataset / "annotations").glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{dataset / 'annotations'} has no JSON file; prepare the data set first")
    joined: dict[str, Any] = {"images": [], "annotations": []}
    for path in files:
        coco = load_coco(path)
        if joined.setdefault("categories", coco["categories"]) != coco["categories"]:
            raise ValueError(f"{path} has other categories than {files[0]}; prepare the splits together")
        number = {}
        for image in coco["images"]:
            number[image["id"]] = len(joined["images"]) + 1
            joined["images"].append({**image, "id": number[image["id"]]})
        for annotation in coco["annotations"]:
            new = {"id": len(joined["annotations"]) + 1, "image_id": number[annotation["image_id"]]}
            joined["annotations"].append({**annotation, **new})
    return joined


def deal_out(coco: dict[str, Any], folds: int, seed: int) -> list[int]:
    """Part of each image: whole patients (and patients that share an image) at a time, pathology balanced."""
    images = coco["images"]
    patients = [image.get("patient_id") or ("image", image["id"]) for image in images]
    hashes = [(image.get("source") or {}).get("sha256") for image in images]
    return make_folds(group_images(patients, hashes), [stratum_of(i.get("labels")) for i in images], folds, seed)


def write_folds(plan: FoldPlan, output: Path) -> list[dict[str, Path]]:
    """Write the annotation files of every fold: per fold {split: JSON file}.

    Existing folds are used again if they have the same plan and data.

    Raises:
        ValueError: the output folder belongs to another plan or other data.
    """
    coco = join_splits(plan.dataset)
    part = deal_out(coco, plan.folds, plan.seed)
    content = {
        "dataset": plan.dataset.name,
        "folds": plan.folds,
        "seed": plan.seed,
        "validation": plan.validation,
        "part": {image["file_name"]: number for image, number in zip(coco["images"], part, strict=True)},
        "sha256": sha256_bytes(json.dumps(coco, sort_keys=True).encode()),
    }
    record = output / FOLDS_FILE
    if record.is_file():
        if read_json(record) != content:
            raise ValueError(
                f"{record} was made with other folds, seed, images or annotations; finish it with those, or name "
                "another --output"
            )
    else:
        write_json(record, content)
    files = []
    for fold in range(plan.folds):
        named = {}
        for split, parts in plan.parts(fold).items():
            images = [image for image, number in zip(coco["images"], part, strict=True) if number in parts]
            ids = {image["id"] for image in images}
            annotations = [a for a in coco["annotations"] if a["image_id"] in ids]
            named[split] = output / f"fold{fold}" / f"{split}.json"
            write_json(named[split], {**coco, "images": images, "annotations": annotations})
        files.append(named)
    return files


def fold_cells(
    row: str,
    config_file: str,
    plan: FoldPlan,
    output: Path,
    overrides: Sequence[str] = (),
    seed: int = 0,
    test_overrides: Sequence[str] = (),
) -> list[Cell]:
    """Write the folds, and make their cells.

    Args:
        row: name of the row.
        config_file, plan, output, overrides: see ``cross_validate``.
        seed: number of the cells' seed; the key SEED is among the overrides or in the config.
        test_overrides: KEY VALUE overrides for the tests alone.

    Raises:
        ValueError: a job that cannot be cross-validated, or see ``write_folds``.
    """
    job = build_job(load_config(config_file, list(overrides)))
    if not rows_named(overrides):  # a row that starts from another one starts from that of its own fold
        job.check_folds()
    images = str(plan.dataset.resolve() / "images")
    # Without validation nothing may be chosen on the test set.
    choice = [] if plan.validation else ["TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0", "TEST.EVAL_EPOCHS", "0"]
    watched = "val" if plan.validation else "test"
    cells = []
    written = write_folds(plan, output)
    for fold in plan.numbers:
        files = written[fold]
        registered = [[f"cv{fold}_{split}", str(path), images] for split, path in files.items()]
        own = [item.replace("{fold}", str(fold)) for item in overrides]
        common = [*own, "DATASETS.REGISTER", str(registered), "DATASETS.TRAIN", f"('cv{fold}_train',)"]
        own_test = job.overrides_of_test(f"cv{fold}_test")
        training = [*common, *choice, "DATASETS.TEST", f"('cv{fold}_{watched}',)", *own_test]
        own_job = build_job(load_config(config_file, training))
        test = [*common, "DATASETS.TEST", f"('cv{fold}_test',)", *test_overrides]
        cells.append(_cell(row, config_file, output, fold, seed, own_job, training, test))
    return cells


def recorded_cells(row: str, plan: FoldPlan, output: Path, seed: int = 0) -> list[Cell]:
    """The cells of folds that have been trained, by the ``config.yaml`` in their folders."""
    return [
        _cell(row, "", output, fold, seed, recorded_job(folder / "train", folder / "test"))
        for fold, folder in ((fold, output / f"fold{fold}") for fold in plan.numbers)
    ]


def _cell(
    row: str,
    config_file: str,
    output: Path,
    fold: int,
    seed: int,
    job: Job,
    training: Sequence[str] = (),
    test: Sequence[str] = (),
) -> Cell:
    folder = output / f"fold{fold}"
    return Cell(
        row,
        seed,
        fold,
        f"fold {fold}",
        folder / "train",
        config_file,
        list(training),
        job,
        folder / "test",
        list(test),
        f"cv{fold}_test",
        folder / "test.json",
        record=folder,
        shares=False,
    )


def cross_validate(
    config_file: str,
    plan: FoldPlan,
    output: Path,
    overrides: Sequence[str] = (),
    jobs: int = 1,
    options: TableOptions = _DEFAULT,
) -> list[dict[str, Any]]:
    """Train and test every fold, each in a separate process.

    Finished folds are kept and interrupted ones resumed, as long as config and data have not changed.

    Args:
        config_file: the config; its data sets are replaced by the folds.
        plan: data and folds.
        output: folder; one sub-folder a fold, and ``cross_validation.md`` (mean ± standard deviation; intervals of all
            folds together), ``.csv``, ``.json``, ``paired_<class>.json`` and ``roc.png``.
        overrides: KEY VALUE overrides for all folds; "{fold}" in a value is the fold's number.
        jobs: number of folds run in parallel.
        options: what the tables show.

    Returns:
        One dict a fold: ``fold`` and every metric of the test set as ``task/key``.

    Raises:
        RunConflictError, ValueError: the folder holds folds of another config, plan or data; see ``fold_cells``.
        ChildProcessError: a fold failed; its log is named.
    """
    if options.only_tables:
        cells = recorded_cells(WHOLE, plan, output)
    else:
        cells = fold_cells(WHOLE, config_file, plan, output, overrides)
    cfg = cells[0].job.cfg
    options.rules({WHOLE: cfg})  # a wrong option is an error before hours of training
    if not options.only_tables:
        run_cells(cells, output, jobs)
    rows = [read_fold(cell) for cell in cells]
    text = folds_table(rows)
    predicted = predictions_by_row(cells)
    if tables := write_comparison(
        predicted, {WHOLE: cfg}, options, output, MEAN_WORDS if options.fold_means else POOLED_WORDS
    ):
        text = "\n\n".join([text, as_text(tables)])
    for pooled in predicted[WHOLE]:
        if pooled.image_scores is not None:
            pooled_roc(plan, output, pooled, cfg.TEST.IMAGE.AGGREGATE)
    write_tables(rows, text, output, "cross_validation")
    return rows


def read_fold(cell: Cell) -> dict[str, Any]:
    """``fold`` and every metric as ``task/key`` of a finished fold."""
    row: dict[str, Any] = {"fold": cell.fold}
    for task, numbers in read_metrics(cell.finished_metrics()).items():
        row.update({f"{task}/{key}": value for key, value in numbers.items()})
    return row


def folds_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per metric: mean ± standard deviation over the folds in which it is defined, and their number."""
    lines = []
    for key in rows[0]:
        if key != "fold":
            lines += [{"metric": key, "value": row[key]} for row in rows if not np.isnan(row.get(key, np.nan))]
    names = list(dict.fromkeys(line["metric"] for line in lines))
    return summary_table(lines, names, ["value"], by="metric", count="folds")


def pooled_roc(plan: FoldPlan, output: Path, pooled: Predictions, how: str) -> dict[str, dict[str, Any]]:
    """One ROC curve over the test images of all folds: ``roc.png`` and ``pooled.json``.

    Scores of different models share one axis here, so the pooled area may be below the mean of the folds.

    Args:
        plan: what was cross-validated.
        output: folder of the cross-validation.
        pooled: predictions on all its test images, with image scores.
        how: "mean" or "max" of the scores over the images of a breast.

    Returns:
        By class and level ("malignant, image") the area, its 95 % interval by DeLong and the number of cases.
    """
    curves, found = [], {}
    images, scores = pooled.images, pooled.image_scores
    assert scores is not None
    columns = {name: (images.truth[:, k], scores[:, k]) for k, name in enumerate(images.classes)}
    if len(columns) > 1:
        columns[ANY] = (combine_truth(images.truth), scores.max(axis=1))
    for name, column in columns.items():
        for level in ("image", "breast"):
            cases = level_cases(images, *column, level, how)
            if len(set(cases.truth.tolist())) < 2:
                continue
            curve = roc_curve(score_table(cases.truth, cases.scores))
            interval = delong_interval(cases.truth, cases.scores, cases.patient, 0.95)
            area = float(np.trapezoid(curve.tpr, curve.fpr))
            found[f"{name}, {level}"] = {
                "auc": area,
                "interval": [interval.low, interval.high],
                "cases": len(cases.truth),
            }
            curves.append(PlotCurve(f"{name}, {level}s (AUC {area:.3f})", curve.fpr, curve.tpr))
    write_json(output / "pooled.json", found, nan_as_null=True)  # no interval with one patient of a kind
    plot_roc(curves, output / "roc.png", f"Pooled: {plan}")
    return found
