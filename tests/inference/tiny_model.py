"""Tiny models for prediction: random weights of a real detector, and one whose boxes are known beforehand."""

from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from mammo_d2.config.loading import load_config
from mammo_d2.data.prepare.prepared_image import ImageOptions
from mammo_d2.data.prepare.recipe import Preparation
from mammo_d2.framework import META_ARCH_REGISTRY, Boxes, CfgNode, Instances, build_model
from tests.engine.toy_training import SETTINGS

# A square lesion of a synthetic right breast, XYXY in its pixels.
LESION = (150, 40, 174, 64)
SIZE = (120, 200)

# Everything that a preparation can do to the geometry.
CROP_FLIP_SCALE = Preparation(image=ImageOptions(crop=True, margin=0.0, flip_to="left", max_side=75))


def write_mammogram(path: Path, seed: int = 0) -> Path:
    """A 16-bit PNG of ``SIZE``: a half disc at the right border, dark background, and a bright square ``LESION``."""
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width]
    breast = ((width - columns) / 110.0) ** 2 + ((rows - height / 2) / 55.0) ** 2 < 1
    noise = np.random.default_rng(seed).integers(0, 500, SIZE)
    pixels = np.where(breast, 15000 + noise, 0)
    pixels[LESION[1] : LESION[3], LESION[0] : LESION[2]] = 60000
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels.astype(np.uint16))
    return path


def make_cfg(folder: Path, *overrides: str) -> CfgNode:
    """Config of the toy detector with random weights in ``folder/model.pth``; boxes of any score are kept."""
    settings = {**SETTINGS, "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0", "INPUT.PREPARATION": "none"}
    settings.update(zip(overrides[::2], overrides[1::2], strict=True))
    cfg = load_config("", [item for pair in settings.items() for item in pair])
    weights = folder / "model.pth"
    if not weights.is_file():
        torch.manual_seed(0)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save({"model": build_model(cfg).state_dict()}, weights)
    cfg.MODEL.WEIGHTS = str(weights)
    return cfg


@META_ARCH_REGISTRY.register()
class BrightestPixels(nn.Module):
    """Finds the box around all pixels above 200 of 255, score 0.75, and a box inside it, score 0.25."""

    image_scores: dict | None = None
    broken = False

    def __init__(self, cfg: CfgNode):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, batch):
        assert not self.training
        return [self._detect(sample) for sample in batch]

    def _detect(self, sample):
        image = sample["image"][0]
        bright = (image > 200).nonzero().float()
        instances = Instances((sample["height"], sample["width"]))
        box = torch.cat([bright.amin(0).flip(0), bright.amax(0).flip(0) + 1]) if len(bright) else torch.zeros(4)
        box *= torch.tensor([sample["width"] / image.shape[1], sample["height"] / image.shape[0]]).repeat(2)
        inner = box + torch.tensor([1.0, 1.0, -1.0, -1.0])
        instances.pred_boxes = Boxes(torch.stack([inner, box])[: 2 * bool(len(bright))])
        instances.scores = torch.tensor([0.25, torch.nan if self.broken else 0.75])[: 2 * bool(len(bright))]
        instances.pred_classes = torch.zeros(len(instances), dtype=torch.long)
        output = {"instances": instances}
        return output if self.image_scores is None else {**output, "image_scores": self.image_scores}


def brightest_cfg(folder: Path, *overrides: str) -> CfgNode:
    """Config of ``BrightestPixels`` with weights."""
    return make_cfg(folder / "brightest", "MODEL.META_ARCHITECTURE", "BrightestPixels", *overrides)
