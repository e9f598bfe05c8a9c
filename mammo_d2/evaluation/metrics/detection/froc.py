"""FROC rules, and the matching that turns a data set into the events that a FROC curve or a detection AP counts.

Naming: ``F`` false positives, ``U`` recall units (lesions, or images, breasts or patients with at least one lesion),
``N`` images, ``R`` false-positive rates asked for. A detection is accepted at threshold ``t`` if its score is >= t, so
detections of equal score come in together and no threshold separates them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mammo_d2.evaluation.metrics.detection.hungarian import assign_hungarian
from mammo_d2.evaluation.metrics.detection.matching import (
    OVERLAP_KINDS,
    HitPairs,
    HitRule,
    assign_greedy,
    best_lesion,
    box_areas,
    find_hits,
    holders,
    order_of_boxes,
    order_of_detections,
    rank_within,
)
from mammo_d2.evaluation.metrics.scores.levels import combine_truth
from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, LesionTable

#: Name of the result of all classes together.
POOLED = "all"

_CHOICES = {
    "matching": ("any", "best", "greedy", "hungarian"),
    "extra_hits": ("ignore", "fp"),
    "fp_images": ("known", "all", "negative", "positive"),
    "recall_unit": ("lesion", "image", "breast", "patient"),
    "interpolation": ("step", "linear"),
    "beyond": ("hold", "nan"),
    "other_classes": ("fp", "ignore"),
    "pooling": ("any_class", "same_class"),
}


@dataclass(frozen=True)
class FrocRule:
    """Every switch of a FROC curve. Published rules are in ``presets.py``.

    Attributes:
        hit: when a detection hits a lesion.
        matching: "any": every detection that hits, hits; one detection may find two lesions (LUNA16, CAMELYON).
            "best": a detection finds only the lesion it hits best; lesions may be shared (DBTex; with extra hits as
            false positives this is PASCAL VOC's rule).
            "greedy": each detection gets at most one lesion and each lesion one detection, best score first (COCO).
            "hungarian": one to one with the largest total quality, whatever the scores (picai_eval).
        extra_hits: a hit on a lesion that a better detection already has: "ignore" (neither right nor wrong) or "fp".
        fp_images: images whose false positives count and over which they are averaged: "known" (images of
            known truth for the class; elsewhere a detection may be right), "all", "negative" (known to be without the
            class) or "positive" (with at least one lesion of the class; DBTex).
        recall_unit: what the sensitivity counts: "lesion", or "image", "breast" or "patient" with at least one hit.
        interpolation: sensitivity at a rate between two operating points: "step" is the best point at or below the
            rate (achievable), "linear" the straight line between the neighbours (LUNA16).
        beyond: sensitivity at rates that the detector never reaches: "hold" its last one, or "nan".
        other_classes: a detection that misses every lesion of its class but hits one of another: "fp" or "ignore".
        pooling: when all classes are taken together, a detection may hit lesions of "any_class" or of the "same_class"
            (nnDetection).
        rates: false positives per image at which the sensitivity is reported.
        mean_rates: the rates averaged to one number; empty means all of ``rates``.
        max_detections: keep only that many best detections per image and class; None (the default) keeps all.
    """

    hit: HitRule = field(default_factory=HitRule)
    matching: str = "any"
    extra_hits: str = "ignore"
    fp_images: str = "known"
    recall_unit: str = "lesion"
    interpolation: str = "step"
    beyond: str = "hold"
    other_classes: str = "fp"
    pooling: str = "any_class"
    rates: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
    mean_rates: tuple[float, ...] = ()
    max_detections: int | None = None

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"FROC option {name}={getattr(self, name)!r} is none of {', '.join(choices)}")
        for rates in (self.rates, self.mean_rates):
            text = ", ".join(f"{rate:g}" for rate in rates)
            if not all(np.isfinite(rate) and rate >= 0 for rate in rates):
                raise ValueError(f"FROC rates {text}: finite numbers >= 0 are needed (false positives per image)")
            # Results are named by the rate in six digits ("sens@0.5"): two rates of one name would be one result.
            if len({f"{rate:g}" for rate in rates}) < len(rates):
                raise ValueError(f"FROC rates {text}: two are equal in six digits; name every rate once")
        if not self.rates:
            raise ValueError("FROC rates: at least one is needed")

    def __str__(self) -> str:
        options = {
            "hit": self.hit,
            "matching": self.matching,
            "extra hits": self.extra_hits,
            "false positives per image over": f"{self.fp_images} images",
            "recall of": f"{self.recall_unit}s",
            "interpolation": self.interpolation,
            "beyond the last point": self.beyond,
            "hits on other classes": self.other_classes,
            "classes pooled": self.pooling,
            "mean over": ", ".join(f"{rate:g}" for rate in self.mean_rates or self.rates),
            "detections per image": self.max_detections or "all",
        }
        return "; ".join(f"{name}: {value}" for name, value in options.items())


@dataclass(frozen=True)
class FrocEvents:
    """Matched detections and lesions of a data set: all that any threshold or resampling needs.

    Attributes:
        fp_scores: (F,) scores of the false positives, falling.
        fp_image: (F,) image row of each.
        unit_scores: (U,) score at which each unit is found, falling; -inf for a unit that never is.
        unit_image: (U,) an image row of each unit.
        counted: (N,) bool, the images over which false positives are averaged.
        area_ratios: (found lesions,) area of the detection that holds a lesion over the lesion's area.
    """

    fp_scores: np.ndarray
    fp_image: np.ndarray
    unit_scores: np.ndarray
    unit_image: np.ndarray
    counted: np.ndarray
    area_ratios: np.ndarray


def froc_labels(classes: Sequence[str]) -> list[tuple[int | None, str]]:
    """Number and name of each class that gets a FROC curve; of several classes also (None, "all"), all pooled.

    Raises:
        ValueError: a class beside others is named like the pooled result, which would replace its numbers.
    """
    if len(classes) == 1:
        return [(0, classes[0])]
    if POOLED in classes:
        raise ValueError(f"class {POOLED!r} is named like the result of all classes together; rename the category")
    return [*enumerate(classes), (None, POOLED)]


def count_above(falling: np.ndarray, scores: np.ndarray, inclusive: bool = False) -> np.ndarray:
    """How many entries of a falling list lie above each score (at or above it if ``inclusive``)."""
    return len(falling) - np.searchsorted(falling[::-1], scores, side="left" if inclusive else "right")


def _best_rows(scores: np.ndarray, group: np.ndarray, limit: int) -> np.ndarray:
    """Rows of the ``limit`` highest scores of each group, ascending."""
    order = np.lexsort((-scores, group))
    return np.sort(order[rank_within(group[order]) < limit])


@dataclass(frozen=True)
class Candidates:
    """Detections and lesions of one class, or of all, before they are matched; the same for every hit threshold.

    Attributes:
        found: D detections, ``row`` (D,) their rows in the data's table.
        group: (D,) what may be matched with what: the image, or the image and class.
        targets: G lesions that may be found, those with ``ignore`` included; ``target_row`` (G,) and ``target_group``.
        spacing: (G, 2) mm per pixel at each target.
        excused: crowd regions and findings that swallow false positives.
        excused_spacing: (E, 2) likewise.
        counted: (N,) bool, the images over which false positives are averaged.
    """

    found: DetectionTable
    row: np.ndarray
    group: np.ndarray
    targets: LesionTable
    target_row: np.ndarray
    target_group: np.ndarray
    spacing: np.ndarray
    excused: LesionTable
    excused_spacing: np.ndarray
    counted: np.ndarray


@dataclass(frozen=True)
class Match:
    """What became of the candidates.

    Attributes:
        holder: (G,) the detection that holds each target, -1: none.
        right: (D,) bool, it holds a lesion or hits an ignored one.
        touches: (D,) bool, it hits a lesion, which another detection may hold.
        wrong: (D,) bool, it is a false positive; the others are right, or neither right nor wrong.
    """

    holder: np.ndarray
    right: np.ndarray
    touches: np.ndarray
    wrong: np.ndarray


def _counted_images(data: EvaluationData, rule: FrocRule, label: int | None, has_lesion: np.ndarray) -> np.ndarray:
    """(N,) bool, the images over which false positives are counted and averaged."""
    if rule.fp_images == "all":
        return np.ones(len(data.images), bool)
    if rule.fp_images == "positive":
        return has_lesion
    truth = combine_truth(data.images.truth if label is None else data.images.truth[:, [label]])
    if rule.fp_images == "negative":
        return (truth == 0) & ~has_lesion
    return ~np.isnan(truth) | has_lesion


def froc_candidates(data: EvaluationData, rule: FrocRule, label: int | None = None) -> Candidates:
    """The detections and lesions that a rule matches.

    Args:
        data: images, lesions and detections.
        rule: the FROC options.
        label: class number; None pools all classes, see ``rule.pooling``.
    """
    found, lesions = data.detections, data.lesions
    of_class = np.ones(len(lesions), bool) if label is None else lesions.label == label
    excused = (lesions.crowd | lesions.ignore) & of_class
    if rule.other_classes == "ignore":
        excused |= ~of_class
    row = np.arange(len(found))
    if label is not None and not (mine := found.label == label).all():
        found, row = found.take(mine), row[mine]
    by_class = label is None and rule.pooling == "same_class"
    classes = len(data.images.classes)
    group = found.image * classes + found.label if by_class else found.image
    if rule.max_detections is not None:
        rows = _best_rows(found.scores, group, rule.max_detections)
        found, group, row = found.take(rows), group[rows], row[rows]
    target_row = np.flatnonzero(of_class & ~lesions.crowd)
    targets, regions = lesions.take(target_row), lesions.take(excused)
    has_lesion = np.bincount(targets.image[~targets.ignore], minlength=len(data.images)) > 0
    return Candidates(
        found=found,
        row=row,
        group=group,
        targets=targets,
        target_row=target_row,
        target_group=targets.image * classes + targets.label if by_class else targets.image,
        spacing=data.images.spacing[targets.image],
        excused=regions,
        excused_spacing=data.images.spacing[regions.image],
        counted=_counted_images(data, rule, label, has_lesion),
    )


def hits_of(candidates: Candidates, rule: FrocRule) -> tuple[HitPairs, np.ndarray]:
    """The hits, and (G',) the targets that take part: lesions with ``ignore`` only absorb detections, and only under
    matching "best", where a detection stays with the lesion it hits best. ``lesion`` of a pair counts these."""
    targets = candidates.targets
    rows = np.arange(len(targets)) if rule.matching == "best" else np.flatnonzero(~targets.ignore)
    pairs = find_hits(
        rule.hit,
        candidates.found.boxes,
        candidates.group,
        targets.boxes[rows],
        candidates.target_group[rows],
        candidates.spacing[rows],
    )
    return pairs, rows


def match_candidates(candidates: Candidates, rule: FrocRule, hits: tuple[HitPairs, np.ndarray] | None = None) -> Match:
    """Match the candidates by a rule. ``hits``: those of the rule, where they are known; else ``hits_of``."""
    found, targets = candidates.found, candidates.targets
    all_pairs, rows = hits_of(candidates, rule) if hits is None else hits
    # Most detections hit nothing: only the others are matched, numbered anew in their order.
    hitting, number = np.unique(all_pairs.detection, return_inverse=True)
    pairs = HitPairs(number, all_pairs.lesion, all_pairs.quality)
    scores, boxes, group = found.scores[hitting], found.boxes[hitting], candidates.group[hitting]
    gt_boxes = targets.boxes[rows]
    got_holder, matched = np.full(len(targets), -1, np.int64), np.zeros(len(hitting), bool)
    if rule.matching in ("any", "best"):
        if rule.matching == "best":
            chosen = best_lesion(pairs, len(scores), gt_boxes)[pairs.detection] == pairs.lesion
            pairs = HitPairs(pairs.detection[chosen], pairs.lesion[chosen], pairs.quality[chosen])
        got_holder[rows] = holders(pairs, scores, boxes, len(rows))
        matched[got_holder[got_holder >= 0]] = True
        # Hits of an ignored lesion are never false positives, whether first or not.
        matched[pairs.detection[targets.ignore[rows[pairs.lesion]]]] = True
    else:
        if rule.matching == "greedy":
            turns = order_of_detections(pairs, scores, boxes)
            got = assign_greedy(pairs, turns, group, order_of_boxes(gt_boxes))
        else:
            got = assign_hungarian(pairs, len(scores), group)
        matched = got >= 0
        got_holder[rows[got[matched]]] = np.flatnonzero(matched)
    holder = np.append(hitting, -1)[got_holder]
    right, touches = np.zeros(len(found), bool), np.zeros(len(found), bool)
    touches[hitting] = True
    right[hitting[matched]] = True
    wrong = ~right if rule.extra_hits == "fp" else ~(right | touches)
    wrong &= candidates.counted[found.image]
    if len(candidates.excused):
        wrong &= ~_swallowed(found, wrong, candidates.excused, rule.hit, candidates.excused_spacing)
    return Match(holder, right, touches, wrong)


def recall_units(
    data: EvaluationData, candidates: Candidates, match: Match, unit: str
) -> tuple[np.ndarray, np.ndarray]:
    """Scores (U,) at which each unit is found, falling, -inf for never, and an image row (U,) of each."""
    real = ~candidates.targets.ignore
    unit_image = candidates.targets.image[real]
    unit_scores = np.append(candidates.found.scores, -np.inf)[match.holder[real]]
    if unit != "lesion":
        owner = data.images.groups(unit)[unit_image]
        units, first, member = np.unique(owner, return_index=True, return_inverse=True)
        best = np.full(len(units), -np.inf)
        np.maximum.at(best, member, unit_scores)
        unit_scores, unit_image = best, unit_image[first]
    by_score = np.argsort(-unit_scores)
    return unit_scores[by_score], unit_image[by_score]


def froc_events(data: EvaluationData, rule: FrocRule, label: int | None = None) -> FrocEvents:
    """Match the detections with the lesions of one class, or of all classes together.

    Args:
        data: images, lesions and detections.
        rule: the FROC options.
        label: class number; None pools all classes, see ``rule.pooling``.

    Returns:
        The events, for ``froc_curve`` and the bootstrap.
    """
    candidates = froc_candidates(data, rule, label)
    return events_of(data, candidates, match_candidates(candidates, rule), rule)


def events_of(data: EvaluationData, candidates: Candidates, match: Match, rule: FrocRule) -> FrocEvents:
    """The events of matched candidates."""
    found, targets = candidates.found, candidates.targets
    false = np.flatnonzero(match.wrong)
    false = false[np.argsort(-found.scores[false])]
    real = ~targets.ignore
    holder = match.holder[real]
    held = holder >= 0
    with np.errstate(divide="ignore"):
        area_ratios = box_areas(found.boxes[holder[held]]) / box_areas(targets.boxes[real][held])
    unit_scores, unit_image = recall_units(data, candidates, match, rule.recall_unit)
    return FrocEvents(
        fp_scores=found.scores[false],
        fp_image=found.image[false],
        unit_scores=unit_scores,
        unit_image=unit_image,
        counted=candidates.counted,
        area_ratios=area_ratios,
    )


def _swallowed(
    found: DetectionTable, wrong: np.ndarray, regions: LesionTable, rule: HitRule, spacing: np.ndarray
) -> np.ndarray:
    """(D,) bool: wrong detections that hit an ignored finding (by the hit rule) or lie in a crowd region (by the part
    of their own area inside it, as COCO does, because no box has a large IoU with a large region)."""
    rows = np.flatnonzero(wrong & np.isin(found.image, regions.image))
    crowd_rule = HitRule("iobb", rule.threshold if rule.kind in OVERLAP_KINDS else 0.5, rule.strict)
    inside = np.zeros(len(found), bool)
    for mask, how in ((~regions.crowd, rule), (regions.crowd, crowd_rule)):
        part = regions.take(mask)
        pairs = find_hits(how, found.boxes[rows], found.image[rows], part.boxes, part.image, spacing[mask])
        inside[rows[pairs.detection]] = True
    return inside
