"""Coverage of confidence intervals: how often a 95 % interval holds the true value, by simulation.

Population: patients with four images each, 3 % of them with a lesion in two of the four. Image scores and lesion scores
are normal and correlated within a patient; false marks are Poisson with a rate that differs between patients. The true
AUC, partial AUC ratio and FROC sensitivity follow from the distributions. A second system with correlated scores gives
differences. docs/statistics.md has the table and what follows from it.

Scores have no ties, so each number depends on how many false marks, or negative images, of each patient lie above each
positive. A replicate is then one product of matrices; tests/benchmarks/test_coverage.py holds the numbers against those
of the package.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats
from tabulate import tabulate

from mammo_d2.core.files import write_json
from mammo_d2.evaluation.metrics.bootstrap import Interval
from mammo_d2.evaluation.metrics.comparison.intervals import (
    INTERVALS,
    auc_score_interval,
    deciding_patients,
    make_interval,
)
from mammo_d2.evaluation.metrics.scores.delong import delong_interval, delong_test

VIEWS, LESION_VIEWS = 4, 2
MIN_SENSITIVITY, RATE = 0.8, 0.5  # of the partial AUC ratio, and of the FROC point in false marks per image
FALSE_MARKS, MISSED = 2.0, 0.1  # false marks per image; part of the lesions that get no mark
WITHIN, BETWEEN = 0.4, 0.6  # correlation within a patient, and between the two systems
EFFECTS = (1.6, 1.8)  # distance of positives and negatives in standard deviations, by system
METRICS = ("auc", "pauc_ratio", f"sens@{RATE:g}")


class FastNumbers:
    """The numbers of ``METRICS`` of one system for patient weights.

    Args:
        unit_patient: (U,) patient of each positive image, by falling score.
        above: (M, U) negative images of each patient that score above each positive image.
        negatives: (M,) negative images of each patient.
        lesion_patient: (L,) patient of each lesion.
        false_above: (M, L) false marks of each patient above each lesion's mark (all of them if it has none).
    """

    keys = METRICS

    def __init__(
        self,
        unit_patient: np.ndarray,
        above: np.ndarray,
        negatives: np.ndarray,
        lesion_patient: np.ndarray,
        false_above: np.ndarray,
        marked: np.ndarray,
    ) -> None:
        self._units, self._above, self._negatives = unit_patient, above.astype(float), negatives.astype(float)
        self._lesions, self._false_above, self._marked = lesion_patient, false_above.astype(float), marked

    def replicate(self, weights: np.ndarray) -> np.ndarray:
        """(3, b) numbers for patient weights (M, b)."""
        w = np.asarray(weights, float)
        units = w[self._units]
        specificity = 1 - (self._above.T @ w) / (self._negatives @ w)
        positives = units.sum(axis=0)
        reached = np.cumsum(units, axis=0)
        rise = np.clip(reached - np.maximum(reached - units, MIN_SENSITIVITY * positives), 0, None)
        lesions = w[self._lesions]
        rate = (self._false_above.T @ w) / (VIEWS * w.sum(axis=0))
        found = (rate <= RATE * (1 + 1e-12)) & self._marked[:, None]
        with np.errstate(invalid="ignore"):
            return np.stack(
                [
                    (units * specificity).sum(axis=0) / positives,
                    (rise * specificity).sum(axis=0) / positives / (1 - MIN_SENSITIVITY),
                    (lesions * found).sum(axis=0) / lesions.sum(axis=0),
                ]
            )


@dataclass(frozen=True)
class Marks:
    """One system's scores of a study: image scores (N,), false marks and their images, lesion scores (-inf: none)."""

    scores: np.ndarray
    fp_scores: np.ndarray
    fp_image: np.ndarray
    lesion_scores: np.ndarray


@dataclass(frozen=True)
class Sample:
    """One simulated study of M patients with N images: ``truth`` (N,), ``patient`` (N,), ``positive`` (M,)."""

    truth: np.ndarray
    patient: np.ndarray
    positive: np.ndarray
    systems: tuple[Marks, Marks]

    def numbers(self, system: int) -> FastNumbers:
        """What is needed to resample one system."""
        marks, patients = self.systems[system], len(self.positive)
        unit = np.flatnonzero(self.truth)
        unit = unit[np.argsort(-marks.scores[unit])]
        negative = np.flatnonzero(~self.truth)
        place = np.searchsorted(-marks.scores[unit], -marks.scores[negative])
        lesion_patient = self.patient[np.flatnonzero(self.truth)]
        order = np.argsort(-marks.lesion_scores)
        fp_place = np.searchsorted(-marks.lesion_scores[order], -marks.fp_scores)
        return FastNumbers(
            self.patient[unit],
            _counts_above(self.patient[negative], place, patients, len(unit)),
            np.bincount(self.patient[negative], minlength=patients),
            lesion_patient[order],
            _counts_above(self.patient[marks.fp_image], fp_place, patients, len(order)),
            np.isfinite(marks.lesion_scores[order]),
        )


def _counts_above(patient: np.ndarray, place: np.ndarray, patients: int, units: int) -> np.ndarray:
    """(M, U) how many of each patient's scores lie above each of U falling scores, from their places among them."""
    counts = np.bincount(patient * (units + 1) + place, minlength=patients * (units + 1))
    return np.cumsum(counts.reshape(patients, units + 1)[:, :units], axis=1)


def true_values(effect: float) -> dict[str, float]:
    """The metrics of the population for one system."""
    u = MIN_SENSITIVITY + (np.arange(20000) + 0.5) / 20000 * (1 - MIN_SENSITIVITY)
    threshold = stats.norm.isf(RATE / FALSE_MARKS)
    return {
        METRICS[0]: float(stats.norm.cdf(effect / 2**0.5)),
        METRICS[1]: float(stats.norm.cdf(effect - stats.norm.ppf(u)).mean()),
        METRICS[2]: float((1 - MISSED) * stats.norm.cdf(effect - threshold)),
    }


def draw_sample(patients: int, prevalence: float, rng: np.random.Generator) -> Sample:
    """A study with a fixed number of positive patients (at least 2), as a stratified bootstrap assumes."""
    positives = max(round(prevalence * patients), 2)
    positive = np.arange(patients) < positives
    patient = np.repeat(np.arange(patients), VIEWS)
    truth = positive[patient] & (np.tile(np.arange(VIEWS), patients) < LESION_VIEWS)
    noise, lesion_noise = _noise(rng, patients, VIEWS), _noise(rng, positives, LESION_VIEWS)
    systems = []
    for system, effect in enumerate(EFFECTS):
        counts = rng.poisson(FALSE_MARKS * np.repeat(rng.gamma(4, 1 / 4, patients), VIEWS))
        marked = rng.random(positives * LESION_VIEWS) >= MISSED
        systems.append(
            Marks(
                noise[system].ravel() + effect * truth,
                rng.normal(size=counts.sum()),
                np.repeat(np.arange(len(patient)), counts),
                np.where(marked, lesion_noise[system].ravel() + effect, -np.inf),
            )
        )
    return Sample(truth, patient, positive, (systems[0], systems[1]))


def _noise(rng: np.random.Generator, patients: int, views: int) -> np.ndarray:
    """(2, patients, views) standard normal, correlated within patients and between the two systems."""
    out = np.zeros((2, patients, views))
    for shape, part in (((patients, 1), WITHIN), ((patients, views), 1 - WITHIN)):
        out += part**0.5 * (BETWEEN**0.5 * rng.normal(size=shape) + (1 - BETWEEN) ** 0.5 * rng.normal(size=(2, *shape)))
    return out


def draw_stratified(positive: np.ndarray, replicates: int, rng: np.random.Generator) -> np.ndarray:
    """(M, b) weights of a bootstrap that draws positive and negative patients apart, all at once."""
    weights = np.zeros((len(positive), replicates))
    for members in (np.flatnonzero(positive), np.flatnonzero(~positive)):
        size = len(members)
        drawn = rng.integers(0, size, (replicates, size)) + size * np.arange(replicates)[:, None]
        weights[members] = np.bincount(drawn.ravel(), minlength=replicates * size).reshape(replicates, size).T
    return weights


def intervals_of(
    sample: Sample, replicates: int, confidence: float, rng: np.random.Generator
) -> dict[tuple[str, str], Interval]:
    """Every kind of interval of the first system's metrics and of the differences (second minus first)."""
    patients = len(sample.positive)
    both = [sample.numbers(system) for system in (0, 1)]
    weights = draw_stratified(sample.positive, replicates, rng)
    one_each, left_out = np.ones((patients, 1)), 1 - np.eye(patients)
    tables = [[numbers.replicate(w) for w in (one_each, weights, left_out)] for numbers in both]
    clusters = int(min(sample.positive.sum(), (~sample.positive).sum()))
    deciding = {METRICS[1]: deciding_patients(clusters, 1 - MIN_SENSITIVITY)}
    found: dict[tuple[str, str], Interval] = {}
    for row, metric in enumerate(METRICS):
        first = [table[row] for table in tables[0]]
        change = [b[row] - a[row] for a, b in zip(*tables, strict=True)]
        for name, (value, drawn, without) in ((metric, first), (f"{metric} difference", change)):
            for kind in INTERVALS:
                found[name, kind] = make_interval(
                    kind, float(value[0]), drawn, confidence, left_out=without, strata=sample.positive,
                    clusters=deciding.get(metric, clusters), is_difference=name != metric,
                )  # fmt: skip
    first_scores, second_scores = (system.scores for system in sample.systems)
    auc = delong_interval(sample.truth, first_scores, sample.patient, confidence)
    test = delong_test(sample.truth, second_scores, first_scores, sample.patient, confidence)
    found["auc", "score"] = auc_score_interval(
        auc.auc, float(sample.positive.sum()), float((~sample.positive).sum()), confidence
    )
    found["auc", "delong"] = Interval(auc.low, auc.high)
    found["auc difference", "delong"] = Interval(test.low, test.high)
    return found


@dataclass(frozen=True)
class Coverage:
    """Part of the studies whose interval held the truth (an undefined interval did not), and the mean width."""

    share: float
    width: float


def coverage(
    patients: int,
    studies: int,
    replicates: int = 400,
    prevalence: float = 0.03,
    confidence: float = 0.95,
    seed: int = 0,
) -> Mapping[tuple[str, str], Coverage]:
    """Simulate studies and count, by metric and kind of interval."""
    first, second = (true_values(effect) for effect in EFFECTS)
    truth = {**first, **{f"{name} difference": second[name] - first[name] for name in first}}
    found: dict[tuple[str, str], list[Interval]] = {}
    for number in range(studies):
        rng = np.random.default_rng([seed, patients, number])
        for key, interval in intervals_of(draw_sample(patients, prevalence, rng), replicates, confidence, rng).items():
            found.setdefault(key, []).append(interval)
    return {
        key: Coverage(
            float(np.mean([i.low <= truth[key[0]] <= i.high for i in intervals])),
            float(np.nanmean([i.high - i.low for i in intervals])),
        )
        for key, intervals in found.items()
    }


def coverage_table(results: Mapping[int, Mapping[tuple[str, str], Coverage]], kinds: Sequence[str]) -> str:
    """Markdown: a row per metric and number of patients; coverage in percent and mean width by kind of interval."""
    rows = []
    for metric in dict.fromkeys(key[0] for result in results.values() for key in result):
        for patients, result in results.items():
            cells = [result.get((metric, kind)) for kind in kinds]
            shown = ["" if cell is None else f"{100 * cell.share:.1f} ({cell.width:.2f})" for cell in cells]
            rows.append([metric, patients, *shown])
    return tabulate(rows, ["metric", "patients", *kinds], tablefmt="github", disable_numparse=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--patients", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--studies", type=int, default=1000, help="simulated studies of each size")
    parser.add_argument("--replicates", type=int, default=400, help="of each study's bootstrap")
    parser.add_argument("--prevalence", type=float, default=0.03, help="part of the patients that are positive")
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="JSON file for the numbers")


def run(args: argparse.Namespace) -> None:
    results = {}
    for patients in args.patients:
        start = time.process_time()
        results[patients] = coverage(
            patients, args.studies, args.replicates, args.prevalence, args.confidence, args.seed
        )
        print(f"{patients} patients: {args.studies} studies, {time.process_time() - start:.0f} CPU s", flush=True)
    print(coverage_table(results, (*INTERVALS, "delong", "score")))
    error = 100 * (args.confidence * (1 - args.confidence) / args.studies) ** 0.5
    print(f"\ncoverage in % of {args.studies} studies (standard error {error:.1f}), mean width in brackets")
    if args.output is not None:
        write_json(
            args.output,
            {
                str(patients): {f"{metric}/{kind}": vars(cell) for (metric, kind), cell in result.items()}
                for patients, result in results.items()
            },
            indent=2,
            nan_as_null=True,
        )
