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
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    TrainerBase,
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
from detectron2.layers import ShapeSpec, batched_nms
from detectron2.modeling import (
    BACKBONE_REGISTRY,
    META_ARCH_REGISTRY,
    PROPOSAL_GENERATOR_REGISTRY,
    ROI_HEADS_REGISTRY,
    Backbone,
    GeneralizedRCNN,
    StandardROIHeads,
    build_backbone,
    build_model,
    detector_postprocess,
)
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import Res5ROIHeads
from detectron2.solver import build_lr_scheduler, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.structures import Boxes, BoxMode, ImageList, Instances, pairwise_iou
from detectron2.utils import comm
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from detectron2.utils.logger import setup_logger
from detectron2.utils.registry import Registry

from mammo_d2.framework.process_group import DEFAULT_TIMEOUT, is_torchrun, run_under_torchrun
from mammo_d2.framework.weights.checkpoint_io import SafeCheckpointing


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
        return run_under_torchrun(main_func, args, comm, _forget_process_groups, timeout)
    return _launch(main_func, num_gpus_per_machine, num_machines, machine_rank, dist_url, args, timeout)


def _forget_process_groups() -> None:
    # detectron2 keeps its groups for as long as the process lives and has no public way to drop them.
    comm._LOCAL_PROCESS_GROUP = None
    comm._get_global_gloo_group.cache_clear()


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
