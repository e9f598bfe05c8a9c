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
from mammo_d2.engine.run_folder import LOG_FILE, evaluation_metrics, inference_folder
from mammo_d2.engine.run_record import claim_folders
from mammo_d2.evaluation.metrics.scores.curves import roc_curve, score_table
from mammo_d2.evaluation.metrics.scores.delong import delong_interval
from mammo_d2.evaluation.metrics.scores.levels import combine_truth, level_cases
from mammo_d2.evaluation.study.plots import PlotCurve, plot_roc
from mammo_d2.experiments.comparison.paired_tables import TableOptions, as_text, write_comparison
from mammo_d2.experiments.comparison.predictions import Predictions, has_predictions, join_folds, read_predictions
from mammo_d2.experiments.comparison.row_statistics import ANY
from mammo_d2.experiments.processes import (
    read_metrics,
    run_all,
    run_job,
    summary_table,
    write_tables,
)
from mammo_d2.experiments.variant_runs import recorded_job
from mammo_d2.jobs.job import Job, ResultEvaluation, build_job

FOLDS_FILE = "folds.json"
#: Name of the only row of a table, and what its values are of.
WHOLE, POOLED_WORDS = "all folds", "All folds together"

_DEFAULT = TableOptions()


@dataclass(frozen=True)
class FoldPlan:
    """What is cross-validated.

    Attributes:
        dataset: folder of a prepared data set; all its splits are joined and dealt out anew.
        folds: K.
        seed: of the folds.
        validation: keep a part for validation; otherwise K - 1 parts are for training.
    """

    dataset: Path
    folds: int = 5
    seed: int = 0
    validation: bool = True

    def __post_init__(self) -> None:
        if self.folds < 2 + self.validation:
            raise ValueError(
                f"{self.folds} folds leave nothing to train on: training{', validation' * self.validation} and test "
                f"need at least {2 + self.validation}"
            )

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


def prepare_folds(
    config_file: str, plan: FoldPlan, output: Path, overrides: Sequence[str] = ()
) -> list[dict[str, list[str]]]:
    """Write the folds and record the config in their folders, before any training.

    Args:
        config_file, plan, output, overrides: see ``cross_validate``.

    Returns:
        Per fold the overrides of its "training" and its "test", the latter without the weights.

    Raises:
        RunConflictError: a fold was started with another config; nothing is started.
        ValueError: a job that cannot be cross-validated, or see ``write_folds``.
    """
    build_job(load_config(config_file, list(overrides))).check_folds()
    images = str(plan.dataset.resolve() / "images")
    # Without validation nothing may be chosen on the test set.
    choice = [] if plan.validation else ["TEST.BEST_METRIC", "", "TEST.EVAL_PERIOD", "0", "TEST.EVAL_EPOCHS", "0"]
    watched = "val" if plan.validation else "test"
    settings = []
    for fold, files in enumerate(write_folds(plan, output)):
        registered = [[f"cv{fold}_{split}", str(path), images] for split, path in files.items()]
        common = [*overrides, "DATASETS.REGISTER", str(registered), "DATASETS.TRAIN", f"('cv{fold}_train',)"]
        training = [*common, *choice, "DATASETS.TEST", f"('cv{fold}_{watched}',)"]
        settings.append({"training": training, "test": [*common, "DATASETS.TEST", f"('cv{fold}_test',)"]})
    claim_folders(
        {output / f"fold{fold}": load_config(config_file, words["training"]) for fold, words in enumerate(settings)}
    )
    return settings


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
        overrides: KEY VALUE overrides for all folds.
        jobs: number of folds run in parallel.
        options: what the tables show.

    Returns:
        One dict a fold: ``fold`` and every metric of the test set as ``task/key``.

    Raises:
        RunConflictError, ValueError: the folder holds folds of another config, plan or data; see ``prepare_folds``.
        ChildProcessError: a fold failed; its log is named.
    """
    job = job_of_folds(config_file, output, overrides, options)
    options.rules({WHOLE: job.cfg})
    rows = train_folds(config_file, plan, output, overrides, jobs, options)
    text = folds_table(rows)
    if pooled := pooled_predictions(plan, output, job):
        tables = write_comparison({WHOLE: [pooled]}, {WHOLE: job.cfg}, options, output, POOLED_WORDS)
        text = "\n\n".join([text, as_text(tables)])
        if pooled.image_scores is not None:
            pooled_roc(plan, output, pooled, job.cfg.TEST.IMAGE.AGGREGATE)
    write_tables(rows, text, output, "cross_validation")
    return rows


def job_of_folds(config_file: str, output: Path, overrides: Sequence[str], options: TableOptions) -> Job:
    """The job that is cross-validated; with ``only_tables`` by the ``config.yaml`` of the first fold's training."""
    # A wrong key or job is an error before hours of training.
    return (
        recorded_job(output / "fold0" / "train")
        if options.only_tables
        else build_job(load_config(config_file, list(overrides)))
    )


def train_folds(
    config_file: str, plan: FoldPlan, output: Path, overrides: Sequence[str], jobs: int, options: TableOptions
) -> list[dict[str, Any]]:
    """Train and test the folds that are not finished; arguments, results and errors are those of ``cross_validate``."""
    job = job_of_folds(config_file, output, overrides, options)
    settings = [] if options.only_tables else prepare_folds(config_file, plan, output, overrides)

    def train_and_test(fold: int) -> None:
        folder, test = output / f"fold{fold}" / "train", _test_of(job, output, fold)
        if evaluation_metrics(test.results) is not None:
            return
        if not job.is_finished(folder):
            run_job(folder, f"fold {fold}", config_file, settings[fold]["training"], jobs, "--resume")
        weights = ["MODEL.WEIGHTS", str(job.weights(folder))] if test.needs_weights else []
        name, own_settings = f"the test of fold {fold}", [*settings[fold]["test"], *weights]
        run_job(test.folder, name, config_file, own_settings, jobs, "--eval-only")

    if not options.only_tables:
        run_all(train_and_test, range(plan.folds), jobs)
    return [_read_fold(fold, _test_of(job, output, fold).results) for fold in range(plan.folds)]


def _test_of(job: Job, output: Path, fold: int) -> ResultEvaluation:
    folder = output / f"fold{fold}"
    return job.result_evaluation(folder / "train", folder / "test", f"cv{fold}_test")


def _read_fold(fold: int, folder: Path) -> dict[str, Any]:
    path = evaluation_metrics(folder)
    if path is None:
        raise ChildProcessError(f"{folder} has no finished evaluation; see {folder / LOG_FILE}")
    row: dict[str, Any] = {"fold": fold}
    for task, numbers in read_metrics(path).items():
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


def pooled_predictions(plan: FoldPlan, output: Path, job: Job) -> Predictions | None:
    """The predictions on the test images of all folds, each from the model that has not seen the image.

    Args:
        plan: what was cross-validated.
        output: folder of the cross-validation.
        job: of the config that was.

    Returns:
        None where a fold has no predictions.
    """
    parts = []
    for fold in range(plan.folds):
        folder = inference_folder(_test_of(job, output, fold).results, f"cv{fold}_test")
        if not has_predictions(folder):
            return None
        parts.append(read_predictions(folder, output / f"fold{fold}" / "test.json", job.cfg))
    return join_folds(parts)


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
    write_json(output / "pooled.json", found)
    plot_roc(curves, output / "roc.png", f"Pooled over {plan.folds} folds, {plan.dataset.name}")
    return found
