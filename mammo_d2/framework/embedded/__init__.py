"""The embedded engine: detectron2's names, config keys, parameter names and numbers on torchvision, fvcore and iopath.

Import these names from `mammo_d2.framework`, which serves them from here or from an installed detectron2.
"""

# --- the model ---------------------------------------------------------------------------------------------------
from fvcore.common.registry import Registry

from .anchors import build_anchor_generator
from .backbone import BACKBONE_REGISTRY, Backbone, build_backbone
from .box_head import ROI_BOX_HEAD_REGISTRY, build_box_head
from .box_regression import Box2BoxTransform
from .config import CfgNode, configurable, get_cfg
from .fast_rcnn import FastRCNNOutputLayers
from .fpn import FPN, LastLevelMaxPool
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
from .matching import Matcher, subsample_labels
from .poolers import ROIPooler
from .proposals import PROPOSAL_GENERATOR_REGISTRY, add_ground_truth_to_proposals, build_proposal_generator
from .rcnn import META_ARCH_REGISTRY, GeneralizedRCNN, build_model, detector_postprocess
from .resnet import ResNet, build_resnet_backbone
from .roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads, StandardROIHeads, build_roi_heads
from .rpn import RPN, RPN_HEAD_REGISTRY
from .structures import Boxes, BoxMode, ImageList, Instances, pairwise_ioa, pairwise_iou
