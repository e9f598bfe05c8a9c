"""FROC curves and their numbers, from matched events (``froc.py``).

Naming: ``F`` false positives, ``U`` recall units, ``N`` images, ``K`` operating points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocEvents, FrocRule, count_above


@dataclass(frozen=True)
class FrocCurve:
    """Operating points by falling threshold; the first accepts nothing (threshold +inf, 0 false positives, 0 found).

    ``thresholds``, ``fp_per_image`` and ``sensitivity`` are (K,) float64.
    """

    thresholds: np.ndarray
    fp_per_image: np.ndarray
    sensitivity: np.ndarray


def froc_curve(events: FrocEvents, weights: np.ndarray | None = None) -> FrocCurve:
    """The FROC curve: at threshold t, ``sensitivity = #{units found at >= t} / U`` and
    ``fp_per_image = #{false positives >= t} / N``.

    Source: Bunch et al. 1978; Chakraborty 1989. One point per distinct score, so ties cannot depend on file order.
    It differs from a per-lesion ROC (``fp / all false candidates``) in its x axis, which has no upper end, and from the
    localisation ROC (LROC) in that every mark of an image counts. LUNA16 and nnDetection take the false-positive rate
    from scikit-learn's ROC over the candidates, which does not exist without a false positive; MONAI leaves out the
    lowest threshold. Here a detector without false positives has its points at rate 0, and a perfect one scores 1.

    Args:
        events: from ``froc_events``.
        weights: (N,) whole numbers >= 0, how often each image counts; None counts each once.

    Returns:
        The curve; sensitivities are NaN when there is no unit, rates when no image is counted.
    """
    found = events.unit_scores[np.isfinite(events.unit_scores)]
    fp_scores, fp_sums = _running(events.fp_scores, None if weights is None else weights[events.fp_image])
    tp_scores, tp_sums = _running(found, None if weights is None else weights[events.unit_image[: len(found)]])
    images = events.counted.sum() if weights is None else weights[events.counted].sum()
    units = len(events.unit_scores) if weights is None else weights[events.unit_image].sum()
    # Put the scores of found units among those of false positives, without sorting the long list again. Point 0
    # accepts nothing.
    above = count_above(fp_scores, tp_scores)
    new = np.append(fp_scores, np.nan)[above] != tp_scores
    place = 1 + above + np.cumsum(new) - new
    thresholds, fp, tp = np.empty((3, len(fp_scores) + int(new.sum()) + 1))
    old = np.ones(len(fp), bool)
    old[0] = old[place[new]] = False
    thresholds[0], thresholds[old], thresholds[place[new]] = np.inf, fp_scores, tp_scores[new]
    fp[0], fp[old], fp[place[new]] = 0, fp_sums, np.concatenate([[0], fp_sums])[above[new]]
    tp[:] = 0
    tp[place] = np.diff(tp_sums, prepend=0)
    np.cumsum(tp, out=tp)
    with np.errstate(divide="ignore", invalid="ignore"):
        fp /= images
        tp /= units
    if not images:
        fp[:] = np.nan
    if not units:
        tp[:] = np.nan
    return FrocCurve(thresholds, fp, tp)


def _running(scores: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Distinct scores of a falling list, and the summed weight (None: the number) of entries at or above each."""
    last = np.flatnonzero(np.concatenate([scores[1:] != scores[:-1], np.ones(min(len(scores), 1), bool)]))
    return scores[last], last + 1 if weights is None else np.cumsum(weights, dtype=np.int64)[last]


@dataclass(frozen=True)
class FrocPoint:
    """Sensitivity at one rate, the threshold to use for it (the lowest accepted score, +inf: accept nothing) and the
    false positives per image that this threshold really gives."""

    rate: float
    sensitivity: float
    threshold: float
    fp_per_image: float


def sensitivity_at(curve: FrocCurve, rates: tuple[float, ...], interpolation: str, beyond: str) -> list[FrocPoint]:
    """Read a curve at false-positive rates.

    "step": the sensitivity of the last operating point with ``fp_per_image <= rate``, which some threshold achieves.
    "linear": the straight line from that point to the next one, as LUNA16's ``np.interp`` does; no threshold achieves
    it. Threshold and real rate are those of the step point in both cases.
    """
    points = []
    for rate in rates:
        if np.isnan(curve.fp_per_image[0]):
            points.append(FrocPoint(rate, np.nan, np.nan, np.nan))
            continue
        # A rate like 1/8 is exact, 0.1 is not: allow for the rounding of fp / N.
        last = int(np.searchsorted(curve.fp_per_image, rate * (1 + 1e-12), side="right")) - 1
        sensitivity = curve.sensitivity[last]
        if last + 1 < len(curve.fp_per_image):
            if interpolation == "linear":
                x0, x1 = curve.fp_per_image[last : last + 2]
                y0, y1 = curve.sensitivity[last : last + 2]
                sensitivity = y0 + max(rate - x0, 0.0) / (x1 - x0) * (y1 - y0)
        elif beyond == "nan" and rate > curve.fp_per_image[last] * (1 + 1e-12):
            sensitivity = np.nan
        points.append(
            FrocPoint(rate, float(sensitivity), float(curve.thresholds[last]), float(curve.fp_per_image[last]))
        )
    return points


@dataclass(frozen=True)
class FrocSummary:
    """The numbers of one FROC curve.

    ``hit_area_ratio`` is the 5 %, 50 % and 95 % quantile of (detection's area / lesion's area) over the found lesions:
    far from 1, the hit rule rewards boxes of the wrong size. ``reason`` says why sensitivities are NaN, else "".
    """

    rule: FrocRule
    curve: FrocCurve
    points: list[FrocPoint]
    mean_sensitivity: float
    num_units: int
    num_images: int
    num_false_positives: int
    hit_area_ratio: tuple[float, float, float]
    reason: str

    def flat(self) -> Mapping[str, float]:
        """Stable flat keys: ``sens@<rate>``, ``threshold@<rate>``, ``mean_sens``, counts."""
        numbers: dict[str, float] = {}
        for point in self.points:
            numbers[f"sens@{point.rate:g}"] = point.sensitivity
        numbers["mean_sens"] = self.mean_sensitivity
        for point in self.points:
            numbers[f"threshold@{point.rate:g}"] = point.threshold
        numbers[f"num_{self.rule.recall_unit}s"] = float(self.num_units)
        numbers["hit_area_ratio"] = self.hit_area_ratio[1]
        return numbers


def summarize_froc(events: FrocEvents, rule: FrocRule) -> FrocSummary:
    """Sensitivity at every rate of the rule, and its mean (LUNA16's "competition performance metric" for its rates)."""
    curve = froc_curve(events)
    points = sensitivity_at(curve, rule.rates, rule.interpolation, rule.beyond)
    mean = sensitivity_at(curve, rule.mean_rates or rule.rates, rule.interpolation, rule.beyond)
    units, images = len(events.unit_scores), int(events.counted.sum())
    ratios = events.area_ratios if len(events.area_ratios) else np.full(1, np.nan)
    low, median, high = np.quantile(ratios, (0.05, 0.5, 0.95))
    reason = ""
    if not units:
        reason = "no lesion of this class in the ground truth: sensitivity is undefined"
    elif not images:
        reason = f"no {rule.fp_images} image: false positives per image are undefined"
    return FrocSummary(
        rule=rule,
        curve=curve,
        points=points,
        mean_sensitivity=sum(point.sensitivity for point in mean) / len(mean),
        num_units=units,
        num_images=images,
        num_false_positives=len(events.fp_scores),
        hit_area_ratio=(float(low), float(median), float(high)),
        reason=reason,
    )
