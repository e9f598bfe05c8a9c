"""FROC: the part of the lesions found, against the false positives per image, as the score threshold falls.

Naming: ``F`` false positives, ``U`` recall units (lesions, or images, breasts or patients with at least one lesion),
``N`` images, ``R`` false-positive rates asked for. A detection is accepted at threshold ``t`` if its score is >= t, so
detections of equal score come in together and no threshold separates them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mammo_d2.evaluation.matching import HitRule, assign_greedy, find_hits
from mammo_d2.evaluation.tables import DetectionTable, EvaluationData, LesionTable

CROWD_RULE = HitRule("iobb", 0.5)
_CHOICES = {
    "matching": ("any", "greedy", "hungarian"),
    "extra_hits": ("ignore", "fp"),
    "fp_images": ("all", "negative", "positive"),
    "recall_unit": ("lesion", "image", "breast", "patient"),
    "interpolation": ("step", "linear"),
    "beyond": ("hold", "nan"),
    "other_classes": ("fp", "ignore"),
}


@dataclass(frozen=True)
class FrocRule:
    """Every switch of a FROC curve. Published rules are in :mod:`mammo_d2.evaluation.presets`.

    Attributes:
        hit: when a detection hits a lesion.
        matching: "any": every detection that hits, hits; one detection may find two lesions (LUNA16, CAMELYON).
            "greedy": each detection gets at most one lesion and each lesion one detection, best score first (COCO).
            "hungarian": one to one with the largest total quality, whatever the scores (picai_eval).
        extra_hits: a hit on a lesion that a better detection already has: "ignore" (neither right nor wrong) or "fp".
        fp_images: images whose false positives count and over which they are averaged: "all", "negative" (known to be
            without the class) or "positive" (with at least one lesion of the class; DBTex).
        recall_unit: what the sensitivity counts: "lesion", or "image", "breast" or "patient" with at least one hit.
        interpolation: sensitivity at a rate between two operating points: "step" is the best point at or below the
            rate (achievable), "linear" the straight line between the neighbours (LUNA16).
        beyond: sensitivity at rates that the detector never reaches: "hold" its last one, or "nan".
        other_classes: a detection that misses every lesion of its class but hits one of another: "fp" or "ignore".
        rates: false positives per image at which the sensitivity is reported.
        mean_rates: the rates averaged to one number; empty means all of ``rates``.
        max_detections: keep only that many best detections per image; None (the default) keeps all.
    """

    hit: HitRule = field(default_factory=HitRule)
    matching: str = "any"
    extra_hits: str = "ignore"
    fp_images: str = "all"
    recall_unit: str = "lesion"
    interpolation: str = "step"
    beyond: str = "hold"
    other_classes: str = "fp"
    rates: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    mean_rates: tuple[float, ...] = ()
    max_detections: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"FROC option {name}={getattr(self, name)!r} is none of {', '.join(choices)}")
        if not self.rates or min(*self.rates, *self.mean_rates, 0.0) < 0:
            raise ValueError(f"FROC rates {self.rates}: at least one is needed, and none may be negative")

    def __str__(self) -> str:
        mean = self.mean_rates or self.rates
        return (
            f"hit: {self.hit}; matching: {self.matching}; extra hits: {self.extra_hits}; false positives per image "
            f"over {self.fp_images} images; recall of: {self.recall_unit}s; {self.interpolation} interpolation; beyond "
            f"the last point: {self.beyond}; hits on other classes: {self.other_classes}; mean over "
            f"{', '.join(f'{rate:g}' for rate in mean)}; detections per image: {self.max_detections or 'all'}"
        )


@dataclass(frozen=True)
class FrocEvents:
    """What is left of a data set once detections and lesions are matched: enough for any threshold or resampling.

    Attributes:
        fp_scores: (F,) scores of the false positives, falling.
        fp_image: (F,) image row of each.
        unit_scores: (U,) score at which each unit is found, falling; -inf for a unit that never is.
        unit_image: (U,) an image row of each unit.
        counted: (N,) bool, the images over which false positives are averaged.
    """

    fp_scores: np.ndarray
    fp_image: np.ndarray
    unit_scores: np.ndarray
    unit_image: np.ndarray
    counted: np.ndarray


def _keep_best(detections: DetectionTable, limit: int | None) -> DetectionTable:
    if limit is None:
        return detections
    order = np.lexsort((-detections.scores, detections.image))
    image = detections.image[order]
    starts = np.searchsorted(image, image, side="left")
    return detections.take(np.sort(order[np.arange(len(order)) - starts < limit]))


def _swallowed(missed: DetectionTable, regions: LesionTable, rule: HitRule, spacing: np.ndarray) -> np.ndarray:
    """(D,) bool: detections that hit no lesion but an ignored finding (by the hit rule) or a crowd region (by half of
    their own area, as COCO does, because no box has a large IoU with a large region)."""
    inside = np.zeros(len(missed), bool)
    for part, how in ((regions.take(~regions.crowd), rule), (regions.take(regions.crowd), CROWD_RULE)):
        pairs = find_hits(how, missed.boxes, missed.image, part.boxes, part.image, spacing)
        inside[pairs.detection] = True
    return inside


def froc_events(data: EvaluationData, rule: FrocRule, label: int | None = None) -> FrocEvents:
    """Match the detections with the lesions of one class, or of all classes taken as one.

    Args:
        data: images, lesions and detections.
        rule: the FROC options.
        label: class number; None pools all classes (a detection of any class may hit a lesion of any class).

    Returns:
        The events, for :func:`froc_curve` and the bootstrap.
    """
    lesions, detections = data.lesions, data.detections
    real = ~(lesions.crowd | lesions.ignore)
    excused = ~real
    if label is not None:
        detections = detections.take(detections.label == label)
        of_class = lesions.label == label
        excused = (excused & of_class) | (real & ~of_class if rule.other_classes == "ignore" else False)
        real = real & of_class
    detections = _keep_best(detections, rule.max_detections)
    targets = lesions.take(real)
    pairs = find_hits(rule.hit, detections.boxes, detections.image, targets.boxes, targets.image, data.images.spacing)
    found_at = np.full(len(targets), -np.inf)
    touches = np.zeros(len(detections), bool)
    touches[pairs.detection] = True
    if rule.matching == "any":
        np.maximum.at(found_at, pairs.lesion, detections.scores[pairs.detection])
        right = np.zeros(len(detections), bool)
        # Of the detections of a lesion's best score, the one with the best overlap holds it.
        order = np.lexsort((-pairs.quality, -detections.scores[pairs.detection], pairs.lesion))
        holders = order[np.unique(pairs.lesion[order], return_index=True)[1]]
        right[pairs.detection[holders]] = True
    else:
        if rule.matching == "greedy":
            got = assign_greedy(pairs, detections.scores, detections.image, detections.boxes)
        else:
            from mammo_d2.evaluation.hungarian import assign_hungarian

            got = assign_hungarian(pairs, len(detections), detections.image)
        right = got >= 0
        found_at[got[right]] = detections.scores[right]
    wrong = ~right & (~touches if rule.extra_hits == "ignore" else True)

    image_has = np.bincount(targets.image, minlength=len(data.images)) > 0
    if rule.fp_images == "all":
        counted = np.ones(len(data.images), bool)
    elif rule.fp_images == "positive":
        counted = image_has
    else:
        truth = data.images.truth if label is None else data.images.truth[:, [label]]
        counted = (truth == 0).all(axis=1) & ~image_has
    wrong &= counted[detections.image]
    false = detections.take(wrong)
    if excused.any():
        false = false.take(~_swallowed(false, lesions.take(excused), rule.hit, data.images.spacing))
    by_score = np.argsort(-false.scores, kind="stable")

    unit_scores, unit_image = found_at, targets.image
    if rule.recall_unit != "lesion":
        group = data.images.groups(rule.recall_unit)[targets.image]
        units, first, member = np.unique(group, return_index=True, return_inverse=True)
        unit_scores = np.full(len(units), -np.inf)
        np.maximum.at(unit_scores, member, found_at)
        unit_image = targets.image[first]
    by_found = np.argsort(-unit_scores, kind="stable")
    return FrocEvents(
        fp_scores=false.scores[by_score],
        fp_image=false.image[by_score],
        unit_scores=unit_scores[by_found],
        unit_image=unit_image[by_found],
        counted=counted,
    )


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
    localisation ROC (LROC) in that every mark of an image counts. nnDetection and MONAI compute the false-positive
    rate with scikit-learn's ROC over the candidates, which is undefined (they say 0) when there is none.

    Args:
        events: from :func:`froc_events`.
        weights: (N,) non-negative numbers, how often each image counts; None counts each once.

    Returns:
        The curve; sensitivities are NaN when there is no unit, rates when no image is counted.
    """
    unit_weights = np.ones(len(events.unit_scores)) if weights is None else weights[events.unit_image]
    fp_weights = np.ones(len(events.fp_scores)) if weights is None else weights[events.fp_image]
    images = events.counted.sum() if weights is None else weights[events.counted].sum()
    units = unit_weights.sum()
    found = events.unit_scores[np.isfinite(events.unit_scores)]
    thresholds = np.unique(np.concatenate([events.fp_scores, found]))[::-1]
    fp_sum = np.concatenate([[0], np.cumsum(fp_weights)])
    unit_sum = np.concatenate([[0], np.cumsum(unit_weights)])
    fp = fp_sum[np.searchsorted(-events.fp_scores, -thresholds, side="right")]
    tp = unit_sum[np.searchsorted(-events.unit_scores, -thresholds, side="right")]
    return FrocCurve(
        thresholds=np.concatenate([[np.inf], thresholds]),
        fp_per_image=np.concatenate([[0.0], fp]) / images if images else np.full(len(fp) + 1, np.nan),
        sensitivity=np.concatenate([[0.0], tp]) / units if units else np.full(len(tp) + 1, np.nan),
    )


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
    """The numbers of one FROC curve. ``reason`` says why sensitivities are NaN, and is empty otherwise."""

    rule: FrocRule
    curve: FrocCurve
    points: list[FrocPoint]
    mean_sensitivity: float
    num_units: int
    num_images: int
    num_false_positives: int
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
        return numbers


def summarize_froc(events: FrocEvents, rule: FrocRule) -> FrocSummary:
    """Sensitivity at every rate of the rule, and its mean (LUNA16's "competition performance metric" for its rates)."""
    curve = froc_curve(events)
    points = sensitivity_at(curve, rule.rates, rule.interpolation, rule.beyond)
    mean = sensitivity_at(curve, rule.mean_rates or rule.rates, rule.interpolation, rule.beyond)
    units, images = len(events.unit_scores), int(events.counted.sum())
    reason = ""
    if not units:
        reason = "no lesion of this class in the ground truth: sensitivity is undefined"
    elif not images:
        reason = f"no {rule.fp_images} image: false positives per image are undefined"
    return FrocSummary(
        rule=rule,
        curve=curve,
        points=points,
        mean_sensitivity=float(np.mean([point.sensitivity for point in mean])),
        num_units=units,
        num_images=images,
        num_false_positives=len(events.fp_scores),
        reason=reason,
    )
