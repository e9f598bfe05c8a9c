"""The contract's names, taken from an installed detectron2. Nothing of it is changed here.

Two names are its own with something added: `SafeCheckpointer` is a subclass of its DetectionCheckpointer, and `launch`
first looks whether torchrun started the process.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.data import (
    DatasetCatalog,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
)
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.data.samplers import InferenceSampler, TrainingSampler
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
    create_ddp_model,
    default_argument_parser,
    default_setup,
    default_writers,
    hooks,
)
from detectron2.engine import (
    launch as _launch,
)
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.layers import (
    Conv2d,
    FrozenBatchNorm2d,
    ROIAlign,
    ShapeSpec,
    batched_nms,
    cat,
    cross_entropy,
    get_norm,
    nonzero_tuple,
)
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    FPN,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_BOX_HEAD_REGISTRY,
    ROI_HEADS_REGISTRY,
    RPN_HEAD_REGISTRY,
    Backbone,
    GeneralizedRCNN,
    ResNet,
    StandardROIHeads,
    build_anchor_generator,
    build_backbone,
    build_box_head,
    build_model,
    build_proposal_generator,
    build_resnet_backbone,
    build_roi_heads,
    detector_postprocess,
)
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.matcher import Matcher
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.proposal_generator.proposal_utils import add_ground_truth_to_proposals
from detectron2.modeling.roi_heads import FastRCNNOutputLayers, Res5ROIHeads
from detectron2.modeling.sampling import subsample_labels
from detectron2.solver import build_lr_scheduler, build_optimizer, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.structures import Boxes, BoxMode, ImageList, Instances, pairwise_ioa, pairwise_iou
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventStorage,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
    get_event_storage,
)
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from detectron2.utils.registry import Registry

from mammo_d2.framework.checkpoint_io import SafeCheckpointing
from mammo_d2.framework.process_group import DEFAULT_TIMEOUT, is_torchrun, run_under_torchrun


class SafeCheckpointer(SafeCheckpointing, DetectionCheckpointer):
    """detectron2's checkpointer with this package's file handling."""


def launch(
    main_func: Callable[..., Any],
    num_gpus_per_machine: int,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str | None = None,
    args: tuple = (),
    timeout: timedelta = DEFAULT_TIMEOUT,
) -> Any:
    """detectron2's launch; under torchrun, main_func(*args) in this process as one of the job's."""
    if is_torchrun():
        return run_under_torchrun(main_func, args, comm, timeout)
    return _launch(main_func, num_gpus_per_machine, num_machines, machine_rank, dist_url, args, timeout)


__all__ = [
    "BACKBONE_REGISTRY",
    "FPN",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_BOX_HEAD_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "RPN",
    "RPN_HEAD_REGISTRY",
    "AMPTrainer",
    "Backbone",
    "Box2BoxTransform",
    "BoxMode",
    "Boxes",
    "CfgNode",
    "CommonMetricPrinter",
    "Conv2d",
    "DatasetCatalog",
    "DatasetEvaluator",
    "DatasetEvaluators",
    "DefaultTrainer",
    "DetectionCheckpointer",
    "EventStorage",
    "EventWriter",
    "FastRCNNOutputLayers",
    "FrozenBatchNorm2d",
    "GeneralizedRCNN",
    "HookBase",
    "ImageList",
    "InferenceSampler",
    "Instances",
    "JSONWriter",
    "LastLevelMaxPool",
    "Matcher",
    "MetadataCatalog",
    "PathManager",
    "ROIAlign",
    "ROIPooler",
    "Registry",
    "Res5ROIHeads",
    "ResNet",
    "SafeCheckpointer",
    "ShapeSpec",
    "SimpleTrainer",
    "StandardROIHeads",
    "TensorboardXWriter",
    "TrainerBase",
    "TrainingSampler",
    "add_ground_truth_to_proposals",
    "batched_nms",
    "build_anchor_generator",
    "build_backbone",
    "build_box_head",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "build_lr_scheduler",
    "build_model",
    "build_optimizer",
    "build_proposal_generator",
    "build_resnet_backbone",
    "build_roi_heads",
    "cat",
    "collect_env_info",
    "comm",
    "configurable",
    "create_ddp_model",
    "cross_entropy",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "detector_postprocess",
    "flatten_results_dict",
    "get_cfg",
    "get_default_optimizer_params",
    "get_event_storage",
    "get_norm",
    "hooks",
    "inference_on_dataset",
    "launch",
    "load_coco_json",
    "maybe_add_gradient_clipping",
    "nonzero_tuple",
    "pairwise_ioa",
    "pairwise_iou",
    "print_csv_format",
    "register_coco_instances",
    "seed_all_rng",
    "setup_logger",
    "subsample_labels",
    "verify_results",
]
