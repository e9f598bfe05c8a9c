"""Small detectors and batches for component tests."""

import pytest
import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import Boxes, Instances, build_model, get_cfg
from mammo_d2.modeling.backbone.vgg_m import VGGM


def detector_cfg(form: str = "FPN", *overrides):
    """Config of a tiny top-likelihood detector, "FPN" or "C4", with KEY, VALUE overrides."""
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = 50
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 16
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = "TopLikelihoodRPN"
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 2
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.RPN.TOP_LIKELIHOOD_T = 16
    if form == "FPN":
        cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
        cfg.MODEL.FPN.OUT_CHANNELS = 16
        cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[4], [8], [16], [32], [64]]
        cfg.MODEL.ROI_HEADS.NAME = "SimilarityROIHeads"
        cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4", "p5"]
        cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
        cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
        cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    else:
        cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[4, 8, 16, 32, 64]]
        cfg.MODEL.ROI_HEADS.NAME = "SimilarityRes5ROIHeads"
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 6
    cfg.merge_from_list(list(overrides))
    return cfg


@pytest.fixture
def make_cfg():
    """``detector_cfg``."""
    return detector_cfg


@pytest.fixture
def make_model(make_cfg):
    """A seeded tiny detector in training mode."""

    def make(form: str = "FPN", *overrides):
        cfg = make_cfg(form, *overrides)
        torch.manual_seed(0)
        return build_model(cfg).train()

    return make


def make_image(boxes: list[list[float]], size: tuple[int, int] = (64, 96), seed: int = 0) -> dict:
    """A model input with random pixels and the given XYXY boxes, all of class 0; no boxes is a negative image."""
    instances = Instances(size)
    instances.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    instances.gt_classes = torch.zeros(len(boxes), dtype=torch.long)
    pixels = torch.rand((3, *size), generator=torch.Generator().manual_seed(seed)) * 255
    return {"image": pixels, "instances": instances, "height": size[0], "width": size[1]}


def small_vgg(**kwargs) -> VGGM:
    """A seeded narrow VGG-M for one channel, in evaluation mode."""
    torch.manual_seed(0)
    return VGGM(in_channels=1, channels=(6, 8, 10, 10, 12), **kwargs).eval()
