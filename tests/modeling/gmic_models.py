"""A small GMIC for tests: the real modules, narrow, on small images."""

import torch

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.data.format.catalog import category_names
from mammo_d2.framework import CfgNode, build_model, get_cfg


def gmic_cfg(*overrides) -> CfgNode:
    """Config of a GMIC on 96×64 pixels: maps of 6×4 cells, 3 patches of 32×32; KEY, VALUE overrides."""
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "GMIC"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.NAME = "ResNet22"
    cfg.MODEL.RESNET22.STEM_CHANNELS = 4
    cfg.MODEL.RESNET22.STRIDES = [1, 2, 2]
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [128.0], [64.0]
    cfg.MODEL.GMIC.PATCH_SIZE = [32, 32]
    cfg.MODEL.GMIC.NUM_PATCHES = 3
    cfg.MODEL.GMIC.TOP_FRACTION = 0.2
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
    cfg.merge_from_list(list(overrides))
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(category_names(cfg))
    return cfg


def gmic_model(*overrides) -> torch.nn.Module:
    """A seeded one, in training mode."""
    torch.manual_seed(0)
    return build_model(gmic_cfg(*overrides)).train()


def gmic_input(benign=0, malignant=0, size=(96, 64), seed: int = 0, **more) -> dict:
    """A model input with random pixels, for an image file of twice the height and three times the width."""
    pixels = torch.rand((1, *size), generator=torch.Generator().manual_seed(seed)) * 255
    labels = {"benign": benign, "malignant": malignant}
    return {"image": pixels, "labels": labels, "image_id": seed, "height": 2 * size[0], "width": 3 * size[1], **more}
