"""Either engine as one namespace: the contract's names, and parts behind them that both engines have."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from mammo_d2.framework._engine import engine_names

Engine = SimpleNamespace

EMBEDDED = "embedded"
DETECTRON2 = "detectron2"

# For parametrized tests that run on both.
BOTH = [EMBEDDED, pytest.param(DETECTRON2, marks=pytest.mark.detectron2)]

_PARTS: dict[str, tuple[str, str]] = {
    # name: (module of the embedded engine, module of detectron2)
    "Box2BoxTransform": ("detector.box_regression", "modeling.box_regression"),
    "DefaultAnchorGenerator": ("detector.anchors", "modeling.anchor_generator"),
    "EventWriter": ("utils.writers", "utils.events"),
    "FPN": ("backbone.fpn", "modeling"),
    "FastRCNNConvFCHead": ("detector.box_head", "modeling.roi_heads"),
    "FastRCNNOutputLayers": ("detector.fast_rcnn", "modeling.roi_heads"),
    "FrozenBatchNorm2d": ("backbone.layers", "layers"),
    "Matcher": ("detector.matching", "modeling.matcher"),
    "ROIPooler": ("detector.poolers", "modeling.poolers"),
    "StandardRPNHead": ("detector.rpn", "modeling.proposal_generator.rpn"),
    "TrainerBase": ("engine.trainer", "engine"),
    "add_ground_truth_to_proposals": ("detector.proposals", "modeling.proposal_generator.proposal_utils"),
    "assign_boxes_to_levels": ("detector.poolers", "modeling.poolers"),
    "build_lr_scheduler": ("engine.solver", "solver"),
    "build_resnet_backbone": ("backbone.resnet", "modeling.backbone"),
    "fast_rcnn_inference": ("detector.fast_rcnn", "modeling.roi_heads.fast_rcnn"),
    "inference_on_dataset": ("engine.inference", "evaluation"),
    "load_coco_json": ("data.coco", "data.datasets"),
    "pairwise_iou": ("structures.boxes", "structures"),
    "subsample_labels": ("detector.matching", "modeling.sampling"),
}


def load(name: str) -> Engine:
    """The engine of that name; ``engine.name`` is "embedded" or "detectron2"."""
    if name == EMBEDDED:
        modules = {part: f"mammo_d2.framework.embedded.{ours}" for part, (ours, _) in _PARTS.items()}
    else:
        modules = {part: f"detectron2.{theirs}" for part, (_, theirs) in _PARTS.items()}
    parts: dict[str, Any] = {part: getattr(importlib.import_module(module), part) for part, module in modules.items()}
    names = engine_names(name)
    checkpoint = importlib.import_module("detectron2.checkpoint") if name == DETECTRON2 else None
    # The embedded engine's only checkpointer is the safe one.
    names["DetectionCheckpointer"] = checkpoint.DetectionCheckpointer if checkpoint else names["SafeCheckpointer"]
    return Engine(name=name, **names, **parts)
