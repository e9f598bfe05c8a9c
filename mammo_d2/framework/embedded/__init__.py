"""The embedded engine: detectron2's names, config keys, parameter names and numbers on torchvision, fvcore and iopath.

Import these names from `mammo_d2.framework`, which serves them from here or from an installed detectron2.

Where its models differ from detectron2's on purpose: masks, keypoints, deformable convolutions and the federated loss
are refused with an error that says so; YAML files that run code and configs of VERSION 1 are
refused; wrong arguments raise ValueError where
detectron2 asserts; regions are not rounded to bfloat16 with the features they are pooled from; on a CPU, training pools
regions in another order of sums (`roi_align`), which moves losses by about 1e-7. All else is the same to the last bit
on one machine, initial weights under one seed included.
"""

from fvcore.common.registry import Registry

from mammo_d2.framework.embedded.backbone import fpn  # noqa: F401  # importing it registers the FPN backbones
from mammo_d2.framework.embedded.backbone.backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from mammo_d2.framework.embedded.backbone.layers import ShapeSpec, batched_nms
from mammo_d2.framework.embedded.config import CfgNode, configurable, get_cfg
from mammo_d2.framework.embedded.data.catalog import DatasetCatalog, MetadataCatalog
from mammo_d2.framework.embedded.data.coco import load_coco_json, register_coco_instances
from mammo_d2.framework.embedded.data.loaders import build_detection_test_loader, build_detection_train_loader
from mammo_d2.framework.embedded.data.samplers import InferenceSampler, TrainingSampler
from mammo_d2.framework.embedded.detector.proposals import PROPOSAL_GENERATOR_REGISTRY
from mammo_d2.framework.embedded.detector.rcnn import (
    META_ARCH_REGISTRY,
    GeneralizedRCNN,
    build_model,
    detector_postprocess,
)
from mammo_d2.framework.embedded.detector.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads, StandardROIHeads
from mammo_d2.framework.embedded.detector.rpn import RPN
from mammo_d2.framework.embedded.engine import hooks
from mammo_d2.framework.embedded.engine.checkpoint import DetectionCheckpointer, SafeCheckpointer
from mammo_d2.framework.embedded.engine.default_trainer import DefaultTrainer
from mammo_d2.framework.embedded.engine.inference import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from mammo_d2.framework.embedded.engine.job_setup import default_argument_parser, default_setup, default_writers
from mammo_d2.framework.embedded.engine.launch import launch
from mammo_d2.framework.embedded.engine.solver import (
    build_lr_scheduler,
    get_default_optimizer_params,
    maybe_add_gradient_clipping,
)
from mammo_d2.framework.embedded.engine.trainer import HookBase, SimpleTrainer, TrainerBase
from mammo_d2.framework.embedded.structures.boxes import Boxes, BoxMode, pairwise_iou
from mammo_d2.framework.embedded.structures.instances import ImageList, Instances
from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.events import EventStorage, get_event_storage
from mammo_d2.framework.embedded.utils.log import seed_all_rng, setup_logger
from mammo_d2.framework.embedded.utils.writers import EventWriter

__all__ = [
    "BACKBONE_REGISTRY",
    "META_ARCH_REGISTRY",
    "PROPOSAL_GENERATOR_REGISTRY",
    "ROI_HEADS_REGISTRY",
    "RPN",
    "Backbone",
    "BoxMode",
    "Boxes",
    "CfgNode",
    "DatasetCatalog",
    "DatasetEvaluator",
    "DatasetEvaluators",
    "DefaultTrainer",
    "DetectionCheckpointer",
    "EventStorage",
    "EventWriter",
    "GeneralizedRCNN",
    "HookBase",
    "ImageList",
    "InferenceSampler",
    "Instances",
    "MetadataCatalog",
    "Registry",
    "Res5ROIHeads",
    "SafeCheckpointer",
    "ShapeSpec",
    "SimpleTrainer",
    "StandardROIHeads",
    "TrainerBase",
    "TrainingSampler",
    "batched_nms",
    "build_backbone",
    "build_detection_test_loader",
    "build_detection_train_loader",
    "build_lr_scheduler",
    "build_model",
    "comm",
    "configurable",
    "default_argument_parser",
    "default_setup",
    "default_writers",
    "detector_postprocess",
    "get_cfg",
    "get_default_optimizer_params",
    "get_event_storage",
    "hooks",
    "inference_on_dataset",
    "launch",
    "load_coco_json",
    "maybe_add_gradient_clipping",
    "pairwise_iou",
    "print_csv_format",
    "register_coco_instances",
    "seed_all_rng",
    "setup_logger",
    "verify_results",
]
