"""Mean of a model's outputs for several versions of one image (``TEST.WINDOWS``)."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mammo_d2.framework import Boxes, Instances
from mammo_d2.modeling.functional.saliency import SaliencyBoxRule, saliency_boxes


def average_outputs(outputs: Sequence[dict[str, Any]], rule: SaliencyBoxRule, threshold: float) -> dict[str, Any]:
    """One output for an image.

    Scores and maps are averaged (the maps cover the image file, wherever the windows were), boxes are those of the mean
    map, ``patches`` are those of all versions, and their ``attention`` sums to 1.

    Args:
        outputs: of ``ImageModel``, one for each version.
        rule: how boxes are made from saliency.
        threshold: boxes of a lower score are left out.
    """
    first = outputs[0]
    averaged: dict[str, Any] = {"image_scores": _mean([each["image_scores"] for each in outputs])}
    for name in ("saliency", "network_saliency"):
        if name in first:
            averaged[name] = torch.stack([each[name] for each in outputs]).mean(dim=0)
    if "module_scores" in first:
        averaged["module_scores"] = {
            module: _mean([each["module_scores"][module] for each in outputs]) for module in first["module_scores"]
        }
    if "patches" in first:
        averaged["patches"] = torch.cat([each["patches"] for each in outputs])
        averaged["attention"] = torch.cat([each["attention"] for each in outputs]) / len(outputs)
    size = first["instances"].image_size
    scores = torch.tensor(list(averaged["image_scores"].values()))
    averaged["instances"] = _instances(averaged["saliency"], size, rule, scores, threshold)
    return averaged


def _instances(
    saliency: Tensor, size: tuple[int, int], rule: SaliencyBoxRule, scores: Tensor, threshold: float
) -> Instances:
    boxes, box_scores, classes = saliency_boxes(saliency, size, rule, scores)
    kept = box_scores >= threshold
    instances = Instances(size)
    instances.pred_boxes = Boxes(boxes[kept])
    instances.pred_boxes.clip(size)
    instances.scores, instances.pred_classes = box_scores[kept], classes[kept]
    return instances[instances.pred_boxes.nonempty()].to(saliency.device)


def _mean(scores: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: sum(each[name] for each in scores) / len(scores) for name in scores[0]}
