"""Confidence intervals of an AUC averaged over trainings that were evaluated on the same cases."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mammo_d2.core.files import read_json
from mammo_d2.data.format.catalog import category_names, load_records, register_datasets
from mammo_d2.evaluation.files.image_scores import read_image_scores
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan, Interval, percentile_interval, weight_chunks
from mammo_d2.evaluation.metrics.scores.curves import ScoreIndex, roc_auc
from mammo_d2.evaluation.metrics.scores.levels import level_cases
from mammo_d2.evaluation.metrics.tables import images_from_records
from mammo_d2.framework import CfgNode

_PLAN = BootstrapPlan()


@dataclass(frozen=True)
class Cases:
    """The cases of an evaluation, scored by one training.

    Attributes:
        source: the file, for messages.
        truth: (n,) in {0, 1}.
        scores: (n,).
        patient: (n,) numbers or names of the patients.
    """

    source: Path
    truth: np.ndarray
    scores: np.ndarray
    patient: np.ndarray


def read_lesion_cases(path: Path) -> Cases:
    """The lesions of a ``lesion.json``."""
    cases = read_json(path)["cases"]
    return Cases(path, *(np.array(cases[key]) for key in ("truth", "scores", "patient")))


def read_image_cases(path: Path, cfg: CfgNode, level: str) -> Cases:
    """The cases of an ``image_scores.json``, with the truth of its data set; the first class.

    Args:
        path: of the file, in a folder with the data set's name.
        cfg: config of the run.
        level: "image", "breast", "exam" or "patient"; TEST.IMAGE.AGGREGATE says how images are joined.
    """
    register_datasets(cfg)
    name = category_names(cfg)[0]
    images = images_from_records(load_records(cfg, path.parent.name), [name])
    scores = read_image_scores(path).arranged(images.ids, [name], path.parent.name)[:, 0]
    cases = level_cases(images, images.truth[:, 0], scores, level, cfg.TEST.IMAGE.AGGREGATE)
    return Cases(path, cases.truth, cases.scores, cases.patient)


def mean_auc_interval(runs: Sequence[Cases], plan: BootstrapPlan = _PLAN) -> Interval:
    """Confidence interval of the mean AUC of some runs on the same cases.

    Patients are drawn with replacement, the same ones for all runs, and the runs' AUCs are averaged in every replicate.
    The interval covers the choice of patients for these trainings; the variation between trainings is the standard
    deviation over the seeds.

    Args:
        runs: cases of each run, in the same order.
        plan: the bootstrap, stratified by whether a patient has a positive case.

    Raises:
        ValueError: the runs were evaluated on different cases.
    """
    truth, patient = runs[0].truth, runs[0].patient
    for run in runs:
        if not (np.array_equal(run.truth, truth) and np.array_equal(run.patient, patient)):
            raise ValueError(
                f"{run.source} is about other cases than {runs[0].source}; evaluate all runs on the same data set"
            )
    numbers, dense = np.unique(patient, return_inverse=True)
    strata = np.zeros(len(numbers), np.int64)
    np.maximum.at(strata, dense, truth.astype(np.int64))
    indices = [ScoreIndex(truth, run.scores) for run in runs]
    replicates = [
        np.mean([roc_auc(index.table(weights[dense])) for index in indices], axis=0)
        for weights in weight_chunks(len(numbers), plan, strata)
    ]
    return percentile_interval(np.concatenate(replicates), plan.confidence)
