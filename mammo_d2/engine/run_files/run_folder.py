"""What a run leaves in its OUTPUT_DIR: the names of the files, where they lie, and which weights are the result.

config.yaml, config_eval.yaml                the complete configuration of the training, and of an evaluation alone
preparation.json                             how the training images were prepared
machine.json                                 CPU, threads and versions (``framework/machine.py``)
run_record.json                              config and data, of runs that may be continued (``run_record.py``)
tracker.json                                 its run in an experiment tracker (``monitoring/tracking.py``)
training_cost.json                           seconds and peak memory of the training (``cost.py``)
stdout.txt                                   output of a run that an ablation, cross-validation or search started
metrics.json                                 one JSON object per line: iteration, losses, learning rate, ...
model_<iteration>.pth, last_checkpoint       checkpoints that --resume starts from
model_final.pth                              the last weights; written when everything else of the training is done
model_best.pth                               those of the best evaluation, with TEST.BEST_METRIC
model_ema.pth                                the average at the end, with SOLVER.EMA.ENABLED
inference/<data set>/metrics.json            {task: {metric: value}}, and the evaluators' files (``run_results.py``)
inference/<data set>/prediction_cost.json    seconds and peak memory of the prediction

A job of several trainings has the files from metrics.json on in a folder for each of them (``mammo_d2/jobs``).
"""

import contextlib
import os
import re
from pathlib import Path

from mammo_d2.core.files import read_json
from mammo_d2.evaluation.files.results import FILES_OF_CURVES, FILES_OF_PREDICTIONS

CONFIG_FILE, EVALUATION_CONFIG_FILE = "config.yaml", "config_eval.yaml"
PREPARATION_FILE, RECORD_FILE, LOG_FILE = "preparation.json", "run_record.json", "stdout.txt"
MACHINE_FILE, TRACKER_FILE = "machine.json", "tracker.json"
# The training log, and the numbers of an evaluation.
SCALARS_FILE, METRICS_FILE = "metrics.json", "metrics.json"
INFERENCE_FOLDER = "inference"

FINAL_WEIGHTS, BEST_WEIGHTS, EMA_WEIGHTS = "model_final.pth", "model_best.pth", "model_ema.pth"
# Weights before a loss that was not finite, and those that were trained when an evaluation or another hook failed.
LAST_GOOD_WEIGHTS, UNEVALUATED_WEIGHTS = "model_last_good.pth", "model_unevaluated.pth"
LAST_CHECKPOINT = "last_checkpoint"


def config_file(folder: str | os.PathLike) -> str:
    """Path of a run's configuration.

    Raises:
        FileNotFoundError: there is none, so that the folder is not a run's.
    """
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; name the OUTPUT_DIR of a run, the folder with {CONFIG_FILE}")
    return str(path)


def config_of_weights(weights: str | os.PathLike) -> Path | None:
    """Configuration of the run that weights are from: beside them or one folder above; None if there is none."""
    places = [folder / CONFIG_FILE for folder in Path(weights).parents[:2]]
    return next((path for path in places if path.is_file()), None)


def inference_folder(folder: str | os.PathLike, dataset: str) -> Path:
    """Where the evaluation of one data set is written."""
    return Path(folder) / INFERENCE_FOLDER / dataset


def inference_folders(folder: str | os.PathLike) -> list[Path]:
    """Folders of the evaluations, by name of the data set."""
    inference = Path(folder) / INFERENCE_FOLDER
    return sorted(path for path in inference.iterdir() if path.is_dir()) if inference.is_dir() else []


def evaluation_metrics(folder: str | os.PathLike) -> Path | None:
    """metrics.json of the first evaluation; None where nothing has been evaluated."""
    files = [path / METRICS_FILE for path in inference_folders(folder)]
    return next((path for path in files if path.is_file()), None)


def is_finished(folder: str | os.PathLike) -> bool:
    """Whether a training has finished."""
    return (Path(folder) / FINAL_WEIGHTS).is_file()


def result_weights(folder: str | os.PathLike) -> Path:
    """The weights that are the result of a finished training: the best ones, else the average, else the last ones.

    Raises:
        FileNotFoundError: the training has not finished.
    """
    folder = Path(folder)
    if not is_finished(folder):
        raise FileNotFoundError(
            f"{folder / FINAL_WEIGHTS}: no such file; the training has not finished, mammo-d2 train --resume goes "
            "on with it"
        )
    best = folder / BEST_WEIGHTS
    return best if best.is_file() else last_weights(folder)


def last_weights(folder: str | os.PathLike) -> Path:
    """The weights at the end of a finished training, which its last evaluation is of: the average, if there is one."""
    average = Path(folder) / EMA_WEIGHTS
    return average if average.is_file() else Path(folder) / FINAL_WEIGHTS


def forget_training(folder: str | os.PathLike) -> None:
    """Delete what --resume would take for results of a training that starts anew in this folder."""
    for name in (LAST_CHECKPOINT, FINAL_WEIGHTS, BEST_WEIGHTS, EMA_WEIGHTS):
        (Path(folder) / name).unlink(missing_ok=True)


def forget_evaluation(folder: str | os.PathLike, dataset: str) -> None:
    """Delete the results of an earlier evaluation of a data set: another one may have other evaluators."""
    place = inference_folder(folder, dataset)
    tasks: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        tasks = list(read_json(place / METRICS_FILE))
    names = [METRICS_FILE, *FILES_OF_PREDICTIONS, *FILES_OF_CURVES, *(f"{task}.json" for task in tasks)]
    for name in names:
        (place / Path(name).name).unlink(missing_ok=True)


def remove_checkpoints(folder: str | os.PathLike) -> None:
    """Delete the checkpoints of finished trainings in a folder and below, but for the weights that have a name."""
    for path in Path(folder).rglob("model_*.pth"):
        if re.fullmatch(r"model_\d+\.pth", path.name):
            pointer = path.with_name(LAST_CHECKPOINT)
            if pointer.is_file() and pointer.read_text().strip() == path.name:
                pointer.unlink()  # first: it is found by the file it names
            path.unlink()
