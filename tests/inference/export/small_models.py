"""Small models to export: detectors with one and with two feature maps, a GMIC, a DeepMIL. Random weights."""

import torch
from torch import Tensor, nn

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.config.loading import load_config
from mammo_d2.framework import BACKBONE_REGISTRY, Backbone, CfgNode, build_model, get_cfg
from tests.engine.toy_training import SETTINGS
from tests.modeling.gmic_models import gmic_cfg

FPN = {
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.BACKBONE.NAME": "TwoMaps",
    "MODEL.RPN.IN_FEATURES": "['p2', 'p3']",
    "MODEL.RPN.PRE_NMS_TOPK_TEST": "60",
    "MODEL.RPN.POST_NMS_TOPK_TEST": "30",
    "MODEL.ANCHOR_GENERATOR.SIZES": "[[12], [32]]",
    "MODEL.ROI_HEADS.NAME": "SimilarityROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": "['p2', 'p3']",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": "1",
    "MODEL.ROI_BOX_HEAD.FC_DIM": "16",
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": "3",
    "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO": "2",
    "DATASETS.CATEGORIES": "['benign', 'malignant']",
    "TEST.DETECTIONS_PER_IMAGE": "15",
    "INPUT.SIZE": "[160, 136]",
    "INPUT.PREPARATION": "none",
}


@BACKBONE_REGISTRY.register()
class TwoMaps(Backbone):
    """Two convolutions: p2 with stride 4, p3 with stride 8; inputs are padded to multiples of 8."""

    def __init__(self, cfg: CfgNode, input_shape):
        super().__init__()
        self.first = nn.Conv2d(input_shape.channels, 8, 5, stride=4, padding=2)
        self.second = nn.Conv2d(8, 8, 3, stride=2, padding=1)
        self._out_features = ["p2", "p3"]
        self._out_feature_channels = {"p2": 8, "p3": 8}
        self._out_feature_strides = {"p2": 4, "p3": 8}

    @property
    def size_divisibility(self) -> int:
        return 8

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        fine = self.first(x).relu()
        return {"p2": fine, "p3": self.second(fine)}


def detector_cfg(*overrides: str) -> CfgNode:
    """Config of the detector with two maps; KEY, VALUE overrides."""
    settings = {**SETTINGS, **FPN, "DATASETS.TRAIN": "[]", "DATASETS.TEST": "[]"}
    settings.update(zip(overrides[::2], overrides[1::2], strict=True))
    return load_config("", [item for pair in settings.items() for item in pair])


def with_contrast(model: nn.Module, scale: float = 1.0, seed: int = 0) -> nn.Module:
    """A detector in evaluation mode whose random weights, times ``scale``, tell regions apart and move boxes."""
    generator = torch.Generator().manual_seed(seed)
    heads = [model.proposal_generator.rpn_head, model.roi_heads.box_predictor]
    with torch.no_grad():
        for module in (layer for head in heads for layer in head.modules()):
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                fan_in = module.weight[0].numel()
                module.weight.copy_(torch.randn(module.weight.shape, generator=generator) * scale / fan_in**0.5)
                module.bias.copy_(0.1 * torch.randn(module.bias.shape, generator=generator))
    return model.eval()


def detector(*overrides: str) -> nn.Module:
    """The detector with two maps."""
    torch.manual_seed(0)
    return with_contrast(build_model(detector_cfg(*overrides)))


def one_map_detector(*overrides: str) -> tuple[nn.Module, CfgNode]:
    """The detector with its coarse map alone, the quickest to export; and its config."""
    one = ("MODEL.RPN.IN_FEATURES", "['p3']", "MODEL.ROI_HEADS.IN_FEATURES", "['p3']")
    cfg = detector_cfg(*one, "MODEL.ANCHOR_GENERATOR.SIZES", "[[12, 32]]", *overrides)
    torch.manual_seed(0)
    return with_contrast(build_model(cfg)), cfg


def c4_detector() -> nn.Module:
    """The toy detector of the trainer's tests: one map, res5 on each region."""
    torch.manual_seed(0)
    settings = {**SETTINGS, "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.05"}
    model = build_model(load_config("", [item for pair in settings.items() for item in pair]))
    return with_contrast(model, scale=0.02)  # its features are large


def gmic(*overrides) -> tuple[nn.Module, CfgNode]:
    """A GMIC in evaluation mode, and its config."""
    torch.manual_seed(0)
    cfg = gmic_cfg("INPUT.SIZE", [96, 64], *overrides)
    return build_model(cfg).eval(), cfg


def deep_mil(head: str) -> tuple[nn.Module, CfgNode]:
    """A DeepMIL with the detectors' backbone in evaluation mode, and its config."""
    cfg = get_cfg()
    add_mammo_config(cfg)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.NAME = "DeepMIL", "cpu", "TwoMaps"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [60.0], [50.0]
    cfg.MODEL.DEEP_MIL.HEAD, cfg.MODEL.DEEP_MIL.CLASSIFIER_FC = head, []
    cfg.DATASETS.CATEGORIES = ["benign", "malignant"]
    torch.manual_seed(0)
    return build_model(cfg).eval(), cfg


def image(height: int, width: int, seed: int = 0) -> Tensor:
    """(1, 1, H, W) soft random blobs from 0 to 255."""
    coarse = torch.rand((1, 1, 9, 7), generator=torch.Generator().manual_seed(seed)) * 255
    return nn.functional.interpolate(coarse, (height, width), mode="bilinear")
