"""Evaluator of lesion scores: benign or malignant, one case per lesion."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mammo_d2.core.files import write_json
from mammo_d2.core.lesion_classes import lesion_pathology
from mammo_d2.evaluation.evaluators.base_evaluator import NO_BOOTSTRAP, Computed, PredictionEvaluator, to_array
from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.files.results import LESION_SCORES_FILE, lesion_entry
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.scores.curves import score_table
from mammo_d2.evaluation.metrics.scores.delong import delong_interval
from mammo_d2.evaluation.metrics.scores.lesion_decisions import (
    FNRS,
    average_over_crops,
    lesion_metrics,
    malignancy_of_crops,
    tnr_curve,
)
from mammo_d2.evaluation.metrics.scores.levels import LevelCases, undefined_reason
from mammo_d2.evaluation.metrics.tables import dense_groups, images_from_records
from mammo_d2.evaluation.study.plots import PlotCurve, plot_tnr

#: Values of TEST.LESION.AVERAGE, in words.
CASES = {"annotation": "annotation on an image", "lesion": "lesion, mean over views"}
_TRUTH = {"malignant": 1.0, "benign": 0.0, None: float("nan")}


@dataclass(frozen=True)
class ImageLesions:
    """Scores of an image's lesions.

    Attributes:
        malignancy: (annotations,).
        windows: (n, 4) XYXY in pixels of the image, of each lesion; empty where the model input has none.
        scores: (n,) malignancy of each of these windows.
    """

    malignancy: np.ndarray
    windows: list[np.ndarray]
    scores: list[np.ndarray]


class LesionEvaluator(PredictionEvaluator):
    """Benign or malignant per lesion, from ``output["lesion_scores"]``: one row per annotation of the record, in order.

    A row is the lesion's malignancy, that of its crops (n,), or both probabilities (malignant, benign) of them (n, 2).

    Truth is the annotation's ``pathology`` ("malignant…" or "benign…"), else its class name; lesions of unknown truth
    are left out and counted. A case is an annotation on one image, as published; with ``average`` "lesion" annotations
    of one patient with the same ``lesion_id`` (views of one lesion) are averaged to one case. Writes ``lesion.json``,
    with the cases (patients as numbers), ``tnr_fnr.png``, and ``lesion_scores.json``: every annotation's malignancy and
    windows (see ``lesion_entry``), with ``truth`` (1, 0 or null).
    """

    task = "lesion"
    needs = ("lesion_scores",)

    def __init__(
        self,
        dataset: EvaluatedDataset,
        output_dir: str | os.PathLike | None = None,
        average: str = "annotation",
        crops: str = "probability",
        plan: BootstrapPlan = NO_BOOTSTRAP,
    ) -> None:
        super().__init__(dataset, output_dir)
        if average not in CASES:
            raise ValueError(f"TEST.LESION.AVERAGE {average!r} is neither lesion nor annotation")
        self.average, self.crops, self.plan = average, crops, plan

    def keep(self, record: Mapping, output: Mapping) -> ImageLesions:
        """Malignancy of the lesions, averaged over crops, and of the crops.

        Raises:
            ValueError: not one row of scores per annotation, or one that is not finite.
        """
        annotations = self.dataset.records[self.dataset.rows[record["image_id"]]]["annotations"]
        rows = [to_array(row) for row in output.get("lesion_scores", ())]
        rows = [malignancy_of_crops(*row.T) if row.ndim == 2 else row.reshape(-1) for row in rows]
        owner = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
        malignancy = average_over_crops(np.concatenate([*rows, []]), owner, self.crops)
        if len(malignancy) != len(annotations) or not np.isfinite(malignancy).all():
            raise ValueError(
                f'evaluator "lesion" needs one finite lesion_scores row per annotation: image {record["image_id"]!r} '
                f"has {len(annotations)} annotation(s), the model gave {len(malignancy)}"
            )
        if "windows" not in record:
            nothing = [np.zeros(0)] * len(rows)
            return ImageLesions(malignancy, [np.zeros((0, 4))] * len(rows), nothing)
        windows, lesion = to_array(record["windows"]), to_array(record["window_lesion"])
        return ImageLesions(malignancy, [windows[lesion == row] for row in range(len(rows))], rows)

    def compute(self, records: Sequence[Mapping], found: Sequence[Any]) -> Computed:
        images = images_from_records(records, self.classes)
        owners, truths, scores, patients, entries = [], [], [], [], []
        for row, (record, lesions) in enumerate(zip(records, found, strict=True)):
            values = zip(record["annotations"], lesions.malignancy, lesions.windows, lesions.scores, strict=True)
            for number, (annotation, score, windows, window_scores) in enumerate(values):
                same = annotation.get("lesion_id") if self.average == "lesion" else None
                alone = (record["image_id"], number)
                owners.append(alone if same is None else (int(images.patient[row]), same))
                truths.append(_TRUTH[lesion_pathology(annotation, self.classes)])
                scores.append(score)
                patients.append(int(images.patient[row]))
                entry = lesion_entry(record["image_id"], annotation, score, windows, window_scores)
                entries.append({**entry, "truth": truths[-1]})
        columns = (np.array(truths, float), np.array(scores, float), np.array(patients, np.int64))
        cases = _lesion_cases(owners, *columns)
        numbers = {k: float(v) for k, v in lesion_metrics(score_table(cases.truth, cases.scores)).items()}
        result = Computed(
            numbers
            | {
                "num_malignant": float(cases.truth.sum()),
                "num_benign": float(len(cases.truth) - cases.truth.sum()),
                "num_unknown": float(cases.unknown),
            },
            options=f"one case per {CASES[self.average]}; crops averaged by {self.crops}; TNR at FNR in "
            f"whole lesions; lesions of unknown pathology masked; {self.plan}",
        )
        if reason := undefined_reason(cases):
            result.reasons = {key: reason for key, value in numbers.items() if np.isnan(value)}
        curve = tnr_curve(cases.truth, cases.scores, cases.patient, self.plan)
        interval = delong_interval(cases.truth, cases.scores, cases.patient, self.plan.confidence)
        result.details = {
            "delong_intervals": {"auc": [interval.low, interval.high]},
            "tnr_curve": vars(curve),
            "cases": {name: getattr(cases, name).tolist() for name in ("truth", "scores", "patient")},
        }
        if self.plan.replicates:
            places = {f"tnr@fnr{fnr:g}": int(np.abs(curve.fnr - fnr).argmin()) for fnr in FNRS}
            result.details["intervals"] = {key: [curve.low[k], curve.high[k]] for key, k in places.items()}
            result.details["bootstrap"] = str(self.plan)
        if self.output_dir is not None:
            write_json(self.output_dir / LESION_SCORES_FILE, entries, indent=None, nan_as_null=True)
            band = (curve.fnr, curve.low, curve.high) if self.plan.replicates else (None, None, None)
            plot_tnr([PlotCurve("lesions", curve.fnr, curve.tnr, *band)], self.output_dir / "tnr_fnr.png")
        return result


def _lesion_cases(owners: Sequence, truths: np.ndarray, scores: np.ndarray, patients: np.ndarray) -> LevelCases:
    """Average the annotations of each lesion; leave out and count lesions of unknown truth."""
    lesion = dense_groups(owners)
    number = int(lesion.max(initial=-1)) + 1
    count = np.bincount(lesion, minlength=number)
    mean = np.bincount(lesion, weights=scores, minlength=number) / np.maximum(count, 1)
    truth = np.full(number, -np.inf)
    np.maximum.at(truth, lesion, np.nan_to_num(truths, nan=-1.0))
    patient = np.zeros(number, np.int64)
    patient[lesion] = patients
    known = truth >= 0
    return LevelCases(truth[known], mean[known], patient[known], int((~known).sum()))
