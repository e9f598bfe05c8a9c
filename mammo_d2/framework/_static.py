"""The contract's names for type checkers and editors; never imported at run time.

Written from ``_contract.py`` by ``python -m tests.framework.contract_table``.
"""

from fvcore.common.registry import Registry as Registry

from mammo_d2.framework.embedded.backbone.backbone import BACKBONE_REGISTRY as BACKBONE_REGISTRY
from mammo_d2.framework.embedded.backbone.backbone import Backbone as Backbone
from mammo_d2.framework.embedded.backbone.backbone import build_backbone as build_backbone
from mammo_d2.framework.embedded.backbone.layers import ShapeSpec as ShapeSpec
from mammo_d2.framework.embedded.backbone.layers import batched_nms as batched_nms
from mammo_d2.framework.embedded.config import CfgNode as CfgNode
from mammo_d2.framework.embedded.config import configurable as configurable
from mammo_d2.framework.embedded.config import get_cfg as get_cfg
from mammo_d2.framework.embedded.data.catalog import DatasetCatalog as DatasetCatalog
from mammo_d2.framework.embedded.data.catalog import MetadataCatalog as MetadataCatalog
from mammo_d2.framework.embedded.data.coco import register_coco_instances as register_coco_instances
from mammo_d2.framework.embedded.data.samplers import InferenceSampler as InferenceSampler
from mammo_d2.framework.embedded.detector.proposals import PROPOSAL_GENERATOR_REGISTRY as PROPOSAL_GENERATOR_REGISTRY
from mammo_d2.framework.embedded.detector.rcnn import META_ARCH_REGISTRY as META_ARCH_REGISTRY
from mammo_d2.framework.embedded.detector.rcnn import GeneralizedRCNN as GeneralizedRCNN
from mammo_d2.framework.embedded.detector.rcnn import build_model as build_model
from mammo_d2.framework.embedded.detector.rcnn import detector_postprocess as detector_postprocess
from mammo_d2.framework.embedded.detector.roi_heads import ROI_HEADS_REGISTRY as ROI_HEADS_REGISTRY
from mammo_d2.framework.embedded.detector.roi_heads import Res5ROIHeads as Res5ROIHeads
from mammo_d2.framework.embedded.detector.roi_heads import StandardROIHeads as StandardROIHeads
from mammo_d2.framework.embedded.detector.rpn import RPN as RPN
from mammo_d2.framework.embedded.engine import hooks as hooks
from mammo_d2.framework.embedded.engine.checkpoint import SafeCheckpointer as SafeCheckpointer
from mammo_d2.framework.embedded.engine.default_trainer import DefaultTrainer as DefaultTrainer
from mammo_d2.framework.embedded.engine.inference import DatasetEvaluator as DatasetEvaluator
from mammo_d2.framework.embedded.engine.inference import DatasetEvaluators as DatasetEvaluators
from mammo_d2.framework.embedded.engine.job_setup import default_argument_parser as default_argument_parser
from mammo_d2.framework.embedded.engine.job_setup import default_setup as default_setup
from mammo_d2.framework.embedded.engine.launch import launch as launch
from mammo_d2.framework.embedded.engine.solver import get_default_optimizer_params as get_default_optimizer_params
from mammo_d2.framework.embedded.engine.trainer import HookBase as HookBase
from mammo_d2.framework.embedded.engine.trainer import SimpleTrainer as SimpleTrainer
from mammo_d2.framework.embedded.structures.boxes import Boxes as Boxes
from mammo_d2.framework.embedded.structures.boxes import BoxMode as BoxMode
from mammo_d2.framework.embedded.structures.instances import ImageList as ImageList
from mammo_d2.framework.embedded.structures.instances import Instances as Instances
from mammo_d2.framework.embedded.utils import comm as comm
from mammo_d2.framework.embedded.utils.events import EventStorage as EventStorage
from mammo_d2.framework.embedded.utils.events import get_event_storage as get_event_storage
from mammo_d2.framework.embedded.utils.log import seed_all_rng as seed_all_rng
from mammo_d2.framework.embedded.utils.log import setup_logger as setup_logger
