"""Model outputs and ground truth to numbers.

``metrics`` computes them with numpy, without torch and without the framework. ``files`` reads and writes results,
``study`` compares result files, and ``evaluators`` are what a trainer runs; they alone import the framework.

The names in ``__all__`` are part of the stable API (see ``mammo_d2``). Each is imported when it is first used.
"""

from typing import TYPE_CHECKING

from mammo_d2.core.lazy_names import lazy_names

if TYPE_CHECKING:
    from mammo_d2.evaluation.files.box_tables import load_image_scores
    from mammo_d2.evaluation.files.coco_files import load_ground_truth
    from mammo_d2.evaluation.files.detection_files import load_detections
    from mammo_d2.evaluation.metrics.bootstrap import (
        BootstrapPlan,
        bootstrap,
        paired_comparison,
        percentile_interval,
    )
    from mammo_d2.evaluation.metrics.detection.coco_map import coco_average_precision
    from mammo_d2.evaluation.metrics.detection.detection_ap import detection_average_precision
    from mammo_d2.evaluation.metrics.detection.froc import FrocRule, froc_events
    from mammo_d2.evaluation.metrics.detection.froc_curve import froc_curve, sensitivity_at, summarize_froc
    from mammo_d2.evaluation.metrics.detection.matching import HitRule
    from mammo_d2.evaluation.metrics.detection.presets import PRESETS, Preset, get_preset
    from mammo_d2.evaluation.metrics.scores.curves import (
        average_precision,
        partial_auc_ratio,
        roc_auc,
        roc_curve,
        score_table,
        sensitivity_at_specificity,
        specificity_at_sensitivity,
    )
    from mammo_d2.evaluation.metrics.scores.delong import delong_interval, delong_test, wilson_interval
    from mammo_d2.evaluation.metrics.scores.levels import level_cases
    from mammo_d2.evaluation.metrics.tables import DetectionTable, EvaluationData, ImageTable, LesionTable
    from mammo_d2.evaluation.study.run_study import run_study
    from mammo_d2.evaluation.study.study import StudyOptions, System

_NAMES = {
    "files.box_tables": ("load_image_scores",),
    "files.coco_files": ("load_ground_truth",),
    "files.detection_files": ("load_detections",),
    "metrics.bootstrap": ("BootstrapPlan", "bootstrap", "paired_comparison", "percentile_interval"),
    "metrics.detection.coco_map": ("coco_average_precision",),
    "metrics.detection.detection_ap": ("detection_average_precision",),
    "metrics.detection.froc": ("FrocRule", "froc_events"),
    "metrics.detection.froc_curve": ("froc_curve", "sensitivity_at", "summarize_froc"),
    "metrics.detection.matching": ("HitRule",),
    "metrics.detection.presets": ("PRESETS", "Preset", "get_preset"),
    "metrics.scores.curves": (
        "average_precision",
        "partial_auc_ratio",
        "roc_auc",
        "roc_curve",
        "score_table",
        "sensitivity_at_specificity",
        "specificity_at_sensitivity",
    ),
    "metrics.scores.delong": ("delong_interval", "delong_test", "wilson_interval"),
    "metrics.scores.levels": ("level_cases",),
    "metrics.tables": ("DetectionTable", "EvaluationData", "ImageTable", "LesionTable"),
    "study.run_study": ("run_study",),
    "study.study": ("StudyOptions", "System"),
}

__getattr__, __dir__ = lazy_names(
    __name__, {name: f"{__name__}.{module}" for module, names in _NAMES.items() for name in names}
)

__all__ = [
    "PRESETS",
    "BootstrapPlan",
    "DetectionTable",
    "EvaluationData",
    "FrocRule",
    "HitRule",
    "ImageTable",
    "LesionTable",
    "Preset",
    "StudyOptions",
    "System",
    "average_precision",
    "bootstrap",
    "coco_average_precision",
    "delong_interval",
    "delong_test",
    "detection_average_precision",
    "froc_curve",
    "froc_events",
    "get_preset",
    "level_cases",
    "load_detections",
    "load_ground_truth",
    "load_image_scores",
    "paired_comparison",
    "partial_auc_ratio",
    "percentile_interval",
    "roc_auc",
    "roc_curve",
    "run_study",
    "score_table",
    "sensitivity_at",
    "sensitivity_at_specificity",
    "specificity_at_sensitivity",
    "summarize_froc",
    "wilson_interval",
]
