"""Region encoders: from a shared feature map and boxes to one code per region.

Shape shorthand:
    N: images; R: regions of all images; F: channels of the map; D: width of the code.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from mammo_d2.framework import CfgNode, Registry, ShapeSpec
from mammo_d2.modeling.backbone.vgg_m import FIRST_CENTRE, STRIDE, WINDOW, WINDOW_CELLS
from mammo_d2.modeling.layers.receptive_field import MapShape, first_centre

REGION_ENCODER_REGISTRY = Registry("REGION_ENCODER")
REGION_ENCODER_REGISTRY.__doc__ = """Region encoders by the name used in MODEL.DUAL_BRANCH.REGION_ENCODER.

An entry is called as ``entry.from_config(cfg, shape)`` with the ShapeSpec of the feature map and gives a module with
``out_channels`` and ``forward(features (N, F, h, w), boxes [(m_n, 4) XYXY in input pixels])`` -> (R, out_channels).
"""


@REGION_ENCODER_REGISTRY.register()
class PooledRegionEncoder(nn.Module):
    """The highest value of each channel in the region: for any backbone, nothing is learned.

    The maximum, not the mean: a lesion is small in its window.
    """

    def __init__(self, channels: int, stride: int, resolution: int = 7, centre: float = MapShape.first_centre):
        """
        Args:
            channels: F, which is also the code's width.
            stride: of the map in pixels.
            resolution: samples of a region along a side.
            centre: of the map's first cell in pixels, see ``MapShape``.
        """
        super().__init__()
        self.out_channels = channels
        self.stride = stride
        self.resolution = resolution
        self.centre = centre

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: ShapeSpec) -> "PooledRegionEncoder":
        assert shape.channels is not None  # every backbone tells them
        assert shape.stride is not None
        resolution = cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION or 7
        return cls(shape.channels, shape.stride, resolution, first_centre(shape))

    def forward(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """See the registry."""
        features, boxes = _accurate(features, boxes)
        # roi_align takes cells to be centred at (i + 1/2) strides.
        boxes = [image + (self.stride / 2 - self.centre) for image in boxes]
        return roi_align(features, boxes, self.resolution, 1 / self.stride, 2, aligned=True).amax(dim=(2, 3))

    def extra_repr(self) -> str:
        return f"stride={self.stride}, resolution={self.resolution}, centre={self.centre}"


@REGION_ENCODER_REGISTRY.register()
class VGGMRegionEncoder(nn.Module):
    """The rest of VGG-M: the 13×13 cells of a window, the last pooling and two fully connected layers.

    The code of a 224×224 window whose position is a multiple of 16 is what VGG-M gives for the window within its
    surroundings (see ``backbone/vgg_m.py``); other windows are sampled in the same way between the cells.

    Source:
        Chatfield et al., BMVC 2014, "CNN-M-128": the last hidden layer has 128 units.
    """

    def __init__(self, channels: int = 512, fc_dims: Sequence[int] = (4096, 128), dropout: float = 0.5):
        """
        Args:
            channels: F.
            fc_dims: widths of the layers ``fc6`` and ``fc7``; the second is the code's.
            dropout: after ``fc6``, in training.

        Raises:
            ValueError: not two layers.
        """
        super().__init__()
        if len(fc_dims) != 2:
            raise ValueError(f"MODEL.VGG_M.FC_DIMS must name two widths, not {list(fc_dims)}")
        self.fc6 = nn.Linear(channels * 6 * 6, fc_dims[0])
        self.fc7 = nn.Linear(fc_dims[0], fc_dims[1])
        for layer in (self.fc6, self.fc7):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.dropout = nn.Dropout(dropout)
        self.out_channels = fc_dims[1]

    @classmethod
    def from_config(cls, cfg: CfgNode, shape: ShapeSpec) -> "VGGMRegionEncoder":
        if shape.stride != STRIDE:
            raise ValueError(
                f"VGGMRegionEncoder needs the stride-{STRIDE} map of build_vgg_m_backbone, but MODEL.BACKBONE.NAME is "
                f"{cfg.MODEL.BACKBONE.NAME} with stride {shape.stride}; use PooledRegionEncoder"
            )
        assert shape.channels
        return cls(shape.channels, cfg.MODEL.VGG_M.FC_DIMS, cfg.MODEL.DUAL_BRANCH.DROPOUT)

    def forward(self, features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """See the registry."""
        x = F.max_pool2d(self.cells(features, boxes), kernel_size=3, stride=2).flatten(1)
        return F.relu(self.fc7(self.dropout(F.relu(self.fc6(x)))))

    @staticmethod
    def cells(features: Tensor, boxes: Sequence[Tensor]) -> Tensor:
        """(R, F, 13, 13): the cells of each region, one sample each."""
        features, boxes = _accurate(features, boxes)
        grids = [_cell_grid(image) for image in boxes]
        return roi_align(features, grids, WINDOW_CELLS, 1 / STRIDE, sampling_ratio=1, aligned=True)


def _cell_grid(boxes: Tensor) -> Tensor:
    """Boxes whose 13×13 bins are centred where VGG-M's cells lie in a window, for a map with centres at 16 i + 8.

    A window of 224 pixels has its cells at 17, 33, ..., 209, so that the bins reach from 9 to 217; other sizes have
    them at the same parts of their side. The map's own cells lie 9 pixels further than ``roi_align`` takes them to.
    """
    scale = ((boxes[:, 2:] - boxes[:, :2]) / WINDOW).repeat(1, 2)
    first = FIRST_CENTRE - STRIDE / 2
    corner = boxes[:, :2].repeat(1, 2)
    inner = torch.tensor([first, first, first + STRIDE * WINDOW_CELLS, first + STRIDE * WINDOW_CELLS])
    return corner + inner.to(boxes) * scale - first


def _accurate(features: Tensor, boxes: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """Features and boxes of one type, float32 or better: half-precision coordinates would be off by pixels."""
    if features.dtype != torch.float64:
        features = features.float()
    return features, [image.to(features.dtype) for image in boxes]


def build_region_encoder(cfg: CfgNode, shape: ShapeSpec) -> nn.Module:
    """The encoder named by MODEL.DUAL_BRANCH.REGION_ENCODER for a feature map.

    Raises:
        ValueError: an unknown name.
    """
    name = cfg.MODEL.DUAL_BRANCH.REGION_ENCODER
    if name not in REGION_ENCODER_REGISTRY:
        known = ", ".join(sorted(key for key, _ in REGION_ENCODER_REGISTRY))
        raise ValueError(f"MODEL.DUAL_BRANCH.REGION_ENCODER is {name!r}; use one of {known}")
    return REGION_ENCODER_REGISTRY.get(name).from_config(cfg, shape)
