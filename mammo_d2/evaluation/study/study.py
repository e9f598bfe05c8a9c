"""Input and results of a study: systems, options, numbers, curves, comparisons.

A *system* is a detector's results, image scores, or both. A *task* is a family of numbers of one system
("froc/malignant", "ap/malignant", "patient", …); a *metric* is ``task/key``, e.g. "froc/malignant/sens@0.5".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan, Comparison, Interval
from mammo_d2.evaluation.metrics.detection.presets import Preset, get_preset
from mammo_d2.evaluation.metrics.scores.delong import AucComparison, AucInterval
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule
from mammo_d2.evaluation.metrics.tables import DetectionTable
from mammo_d2.evaluation.study.plots import PlotCurve

#: Levels of the decisions about cases, in the order of the tables.
LEVELS = ("patient", "exam", "breast", "image")


@dataclass(frozen=True)
class System:
    """A system's results: ``detections``, or ``image_scores`` (N, C) with NaN where an image has none, or both."""

    name: str
    detections: DetectionTable | None = None
    image_scores: np.ndarray | None = None
    notes: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyOptions:
    """What to compute.

    Attributes:
        preset: the detection rule.
        scores: options of the classification numbers.
        positive_classes: classes that make a case positive; empty: "malignant" if it is a class, else all.
        aggregation: "max" or "mean" of the image scores over the images of a breast or patient. Scores that come from
            boxes are always combined by their maximum.
        plan: the bootstrap.
        all_thresholds: AP over all hit thresholds of the preset, not the first alone (most of the bootstrap's cost).
        interval: "percentile", or "beta" for few positive patients (see ``beta_interval``); bands are percentile bands.
    """

    preset: Preset = field(default_factory=lambda: get_preset("default"))
    scores: ScoreRule = field(default_factory=ScoreRule)
    positive_classes: tuple[str, ...] = ()
    aggregation: str = "max"
    plan: BootstrapPlan = field(default_factory=BootstrapPlan)
    all_thresholds: bool = True
    interval: str = "percentile"


@dataclass
class MetricValue:
    """One number: its value, interval (NaN limits where none is computed) and why it is NaN ("" if it is not)."""

    value: float
    interval: Interval = field(default_factory=lambda: Interval(float("nan"), float("nan")))
    reason: str = ""


@dataclass
class SystemReport:
    """Everything about one system: ``metrics`` by name, ``auc`` DeLong intervals by level, ``wilson`` intervals of the
    patients' sensitivity, specificity and accuracy, curves by task, notes."""

    name: str
    metrics: dict[str, MetricValue]
    auc: dict[str, AucInterval]
    froc_curves: dict[str, PlotCurve]
    roc_curves: dict[str, PlotCurve]
    notes: Mapping[str, int]
    options: list[str]
    wilson: Mapping[str, tuple[float, float]] = field(default_factory=dict)


@dataclass
class PairReport:
    """A system against the first one: bootstrap comparison by metric, DeLong's paired test by task."""

    first: str
    second: str
    differences: dict[str, Comparison]
    auc: dict[str, AucComparison]


@dataclass
class Study:
    """Reports of all systems, comparisons with the first one, and the options in force in words."""

    systems: list[SystemReport]
    pairs: list[PairReport]
    options: list[str]
