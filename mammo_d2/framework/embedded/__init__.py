"""The embedded engine: detectron2's names, config keys, parameter names and numbers on torchvision, fvcore and iopath.

Import these names from `mammo_d2.framework`, which serves them from here or from an installed detectron2.
"""

from fvcore.common.registry import Registry

from . import comm, hooks
from .anchors import build_anchor_generator
from .backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from .box_head import ROI_BOX_HEAD_REGISTRY, build_box_head
from .box_regression import Box2BoxTransform
from .boxes import Boxes, BoxMode, pairwise_ioa, pairwise_iou
from .catalog import DatasetCatalog, MetadataCatalog
from .checkpoint import DetectionCheckpointer, SafeCheckpointer
from .coco import load_coco_json, register_coco_instances
from .config import CfgNode, configurable, get_cfg
from .default_trainer import DefaultTrainer
from .events import EventStorage, get_event_storage
from .fast_rcnn import FastRCNNOutputLayers
from .files import PathManager
from .fpn import FPN, LastLevelMaxPool
from .inference import (
    DatasetEvaluator,
    DatasetEvaluators,
    flatten_results_dict,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from .job_setup import create_ddp_model, default_argument_parser, default_setup, default_writers
from .launch import launch
from .layers import (
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
from .loaders import build_detection_test_loader, build_detection_train_loader
from .log import collect_env_info, seed_all_rng, setup_logger
from .matching import Matcher, subsample_labels
from .poolers import ROIPooler
from .proposals import PROPOSAL_GENERATOR_REGISTRY, add_ground_truth_to_proposals, build_proposal_generator
from .rcnn import META_ARCH_REGISTRY, GeneralizedRCNN, build_model, detector_postprocess
from .resnet import ResNet, build_resnet_backbone
from .roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads, StandardROIHeads, build_roi_heads
from .rpn import RPN, RPN_HEAD_REGISTRY
from .samplers import InferenceSampler, TrainingSampler
from .solver import (
    build_lr_scheduler,
    build_optimizer,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
)
from .structures import ImageList, Instances
from .trainer import AMPTrainer, HookBase, SimpleTrainer, TrainerBase
from .writers import CommonMetricPrinter, EventWriter, JSONWriter, TensorboardXWriter

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
