"""Evaluators by name: those of TEST.EVALUATORS are built here from the config.

Each evaluator keeps small numpy arrays per image, gathers them over the ranks, counts every image once, and returns
``{task: {key: number}}`` with keys that are always present (NaN where undefined; the reason is logged and written to
the task's JSON file). All numbers are fractions, not percent. This module knows the config; the evaluators do not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from mammo_d2.evaluation.evaluators.evaluated_dataset import EvaluatedDataset
from mammo_d2.evaluation.evaluators.froc_evaluators import ClassifiedFrocEvaluator, FrocEvaluator
from mammo_d2.evaluation.evaluators.image_evaluator import ImageScoreEvaluator
from mammo_d2.evaluation.evaluators.lesion_evaluator import LesionEvaluator
from mammo_d2.evaluation.evaluators.patient_evaluator import PatientEvaluator
from mammo_d2.evaluation.evaluators.precision_evaluators import CocoEvaluator, VocEvaluator
from mammo_d2.evaluation.evaluators.region_evaluator import RegionEvaluator
from mammo_d2.evaluation.evaluators.saliency_evaluator import SaliencyEvaluator
from mammo_d2.evaluation.metrics.bootstrap import BootstrapPlan
from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.detection.matching import HitRule
from mammo_d2.evaluation.metrics.detection.presets import get_preset
from mammo_d2.evaluation.metrics.scores.score_statistic import ScoreRule
from mammo_d2.framework import CfgNode, DatasetEvaluator, DatasetEvaluators, Registry

OutputDir = str | os.PathLike | None

EVALUATOR_REGISTRY = Registry("EVALUATOR")
EVALUATOR_REGISTRY.__doc__ = """Builders by the name used in TEST.EVALUATORS.

An entry is called as ``builder(cfg, dataset_name, output_dir)`` and returns a DatasetEvaluator. A builder marked with
``takes_dataset`` gets the loaded data set instead of its name.
"""

Builder = TypeVar("Builder", bound=Callable[..., DatasetEvaluator])


def takes_dataset(builder: Builder) -> Builder:
    """Mark a builder that is called as ``builder(cfg, dataset, output_dir)`` with an ``EvaluatedDataset``.

    The data set is loaded once for all builders that are marked.
    """
    builder.takes_dataset = True  # type: ignore[attr-defined]
    return builder


def build_evaluators(cfg: CfgNode, dataset_name: str, output_dir: OutputDir) -> DatasetEvaluators:
    """The evaluators named in TEST.EVALUATORS for one data set; see ``named_evaluators``."""
    return DatasetEvaluators([evaluator for _, evaluator in named_evaluators(cfg, dataset_name, output_dir)])


def named_evaluators(
    cfg: CfgNode, dataset_name: str, output_dir: OutputDir = None
) -> list[tuple[str, DatasetEvaluator]]:
    """The evaluators named in TEST.EVALUATORS for one data set, each with its name. The data set is loaded once.

    Args:
        cfg: the config.
        dataset_name: a registered data set.
        output_dir: folder for JSON files and curves; None writes nothing.

    Raises:
        KeyError: no data set is registered under the name.
        ValueError: an unknown evaluator, an option that the evaluator does not take, or a data set without class names.
    """
    known = {name for name, _ in EVALUATOR_REGISTRY}
    unknown = [name for name in cfg.TEST.EVALUATORS if name not in known]
    if unknown:
        raise ValueError(f"TEST.EVALUATORS names {', '.join(unknown)}; known are {', '.join(sorted(known))}")
    dataset: EvaluatedDataset | None = None
    evaluators = []
    for name in cfg.TEST.EVALUATORS:
        builder = EVALUATOR_REGISTRY.get(name)
        if getattr(builder, "takes_dataset", False):
            dataset = dataset or EvaluatedDataset.load(dataset_name)
            evaluators.append((name, builder(cfg, dataset, output_dir)))
        else:
            evaluators.append((name, builder(cfg, dataset_name, output_dir)))
    return evaluators


# Kinds of hits whose threshold is a length, and its unit.
_LENGTHS = {"center_px": "pixels", "center_mm": "millimetres", "center_max": "pixels"}


def froc_rule_from_config(cfg: CfgNode) -> FrocRule:
    """The FROC options of TEST.FROC: a preset by name, or the keys.

    Raises:
        ValueError: unknown words or numbers, or a distance without its THRESHOLD.
    """
    keys = cfg.TEST.FROC
    if keys.PRESET:
        return get_preset(keys.PRESET).rule
    if keys.HIT in _LENGTHS and keys.THRESHOLD == 0.5:
        raise ValueError(
            f"TEST.FROC.HIT {keys.HIT} with TEST.FROC.THRESHOLD 0.5: that is the default, which is for overlaps; name "
            f"the distance in {_LENGTHS[keys.HIT]}"
        )
    return FrocRule(
        hit=HitRule(keys.HIT, keys.THRESHOLD, keys.STRICT),
        matching=keys.MATCHING,
        extra_hits=keys.EXTRA_HITS,
        fp_images=keys.FP_IMAGES,
        recall_unit=keys.RECALL_OF,
        interpolation=keys.INTERPOLATION,
        rates=tuple(keys.RATES),
    )


def bootstrap_plan_from_config(cfg: CfgNode) -> BootstrapPlan:
    """The bootstrap of TEST.BOOTSTRAP."""
    keys = cfg.TEST.BOOTSTRAP
    return BootstrapPlan(keys.REPLICATES, keys.SEED, keys.CONFIDENCE)


def score_rule_from_config(keys: CfgNode) -> ScoreRule:
    """Classification options of TEST.PATIENT or TEST.IMAGE."""
    return ScoreRule(keys.THRESHOLD, keys.STRICT)


@EVALUATOR_REGISTRY.register()
@takes_dataset
def coco(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """Average precision, and the COCO results file."""
    return CocoEvaluator(dataset, output_dir, cfg.TEST.COCO.BACKEND)


@EVALUATOR_REGISTRY.register()
@takes_dataset
def voc(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """PASCAL VOC average precision at IoU > 0.5."""
    return VocEvaluator(dataset, output_dir)


@EVALUATOR_REGISTRY.register()
@takes_dataset
def froc(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """Sensitivity at false positives per image."""
    return FrocEvaluator(dataset, output_dir, froc_rule_from_config(cfg), bootstrap_plan_from_config(cfg))


@EVALUATOR_REGISTRY.register()
@takes_dataset
def froc_classified(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """Sensitivity at false positives per image, in the images that the image scores call positive."""
    rule, plan = froc_rule_from_config(cfg), bootstrap_plan_from_config(cfg)
    return ClassifiedFrocEvaluator(dataset, output_dir, rule, plan, cfg.TEST.FROC.CLASSIFICATION_SENSITIVITY)


@EVALUATOR_REGISTRY.register()
@takes_dataset
def patient(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """Decisions about patients, breasts and images from box scores."""
    keys = cfg.TEST.PATIENT
    return PatientEvaluator(
        dataset,
        output_dir,
        keys.POSITIVE_CLASSES,
        score_rule_from_config(keys),
        bootstrap_plan_from_config(cfg),
    )


@EVALUATOR_REGISTRY.register()
@takes_dataset
def image(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """Decisions about images, breasts and patients from the model's image scores."""
    keys = cfg.TEST.IMAGE
    return ImageScoreEvaluator(
        dataset, output_dir, keys.AGGREGATE, score_rule_from_config(keys), bootstrap_plan_from_config(cfg)
    )


@EVALUATOR_REGISTRY.register()
@takes_dataset
def saliency(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """Agreement of saliency maps with the findings."""
    keys = cfg.TEST.SALIENCY
    plan = bootstrap_plan_from_config(cfg)
    return SaliencyEvaluator(dataset, output_dir, keys.AVERAGE, keys.POINTING_TOLERANCE, plan, keys.PLACEMENT)


@EVALUATOR_REGISTRY.register()
@takes_dataset
def regions(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """How often the best regions of a class hit its lesion; kept for the report's pictures."""
    rule, plan = froc_rule_from_config(cfg).hit, bootstrap_plan_from_config(cfg)
    return RegionEvaluator(dataset, output_dir, rule, cfg.TEST.REGIONS.TOP, plan)


@EVALUATOR_REGISTRY.register()
@takes_dataset
def lesion(cfg: CfgNode, dataset: EvaluatedDataset, output_dir: OutputDir) -> DatasetEvaluator:
    """Benign or malignant, lesion by lesion."""
    keys = cfg.TEST.LESION
    return LesionEvaluator(dataset, output_dir, keys.AVERAGE, keys.CROPS, bootstrap_plan_from_config(cfg))
