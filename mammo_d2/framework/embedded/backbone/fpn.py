"""Feature pyramid network (Lin et al. 2017) on top of a backbone."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from fvcore.nn.weight_init import c2_xavier_fill
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.backbone import BACKBONE_REGISTRY, Backbone
from mammo_d2.framework.embedded.backbone.layers import Conv2d, ShapeSpec, get_norm
from mammo_d2.framework.embedded.backbone.resnet import build_resnet_backbone
from mammo_d2.framework.embedded.config import CfgNode


class LastLevelMaxPool(nn.Module):
    """One level more, p6: every second cell of p5."""

    num_levels = 1
    in_feature = "p5"

    def forward(self, x: Tensor) -> list[Tensor]:
        return [F.max_pool2d(x, kernel_size=1, stride=2)]


class FPN(Backbone):
    """Maps p2, p3, ... of equal channels, each with the resolution of a backbone feature (p3 has stride 2^3).

    From the coarsest level on, each level is its own backbone feature (1x1 convolution) plus the next coarser level,
    enlarged twice; a 3x3 convolution of it is the output.
    """

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm: str = "",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
    ) -> None:
        """Make the layers.

        Args:
            bottom_up: the backbone.
            in_features: its features to use, finest first, each with twice the stride of the one before.
            out_channels: channels of every output.
            norm: normalisation of the convolutions, see ``get_norm``; they have a bias only without one.
            top_block: makes more, coarser levels: has ``num_levels``, ``in_feature`` (a backbone feature or an output)
                and a forward that returns a list of maps.
            fuse_type: "sum", or "avg" to halve the sum.

        Raises:
            ValueError: the strides do not double, or ``fuse_type`` is unknown.
        """
        super().__init__()
        shapes = bottom_up.output_shape()
        strides = [shapes[name].stride for name in in_features]
        if not strides or any(coarse != 2 * fine for fine, coarse in pairwise(strides)):  # type: ignore[operator]
            raise ValueError(f"MODEL.FPN.IN_FEATURES {list(in_features)} have the strides {strides}; they must double")
        if fuse_type not in ("sum", "avg"):
            raise ValueError(f"MODEL.FPN.FUSE_TYPE is {fuse_type!r}; it must be 'sum' or 'avg'")
        levels = [int(math.log2(stride)) for stride in strides]  # type: ignore[arg-type]
        for name, level in zip(in_features, levels, strict=True):
            lateral_norm, output_norm = get_norm(norm, out_channels), get_norm(norm, out_channels)
            lateral = Conv2d(shapes[name].channels, out_channels, 1, bias=norm == "", norm=lateral_norm)
            output = Conv2d(out_channels, out_channels, 3, padding=1, bias=norm == "", norm=output_norm)
            c2_xavier_fill(lateral)
            c2_xavier_fill(output)
            self.add_module(f"fpn_lateral{level}", lateral)
            self.add_module(f"fpn_output{level}", output)
        self.top_block = top_block
        self.in_features = tuple(in_features)
        self.bottom_up = bottom_up

        self._levels = levels
        extra = range(levels[-1] + 1, levels[-1] + 1 + (0 if top_block is None else int(top_block.num_levels)))  # type: ignore[arg-type]
        self._out_feature_strides = {f"p{level}": 2**level for level in (*levels, *extra)}
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)
        self._fuse_type = fuse_type

    @property
    def size_divisibility(self) -> int:
        return 2 ** self._levels[-1]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images ``(N, C, H, W)``, sides divisible by ``size_divisibility``, to the levels, finest first."""
        features = self.bottom_up(x)
        outputs: list[Tensor] = []
        merged: Tensor | None = None
        for name, level in zip(reversed(self.in_features), reversed(self._levels), strict=True):
            lateral = getattr(self, f"fpn_lateral{level}")(features[name])
            if merged is not None:
                # In place: nothing else holds the lateral map, and these are the largest maps of the network.
                lateral += F.interpolate(merged, scale_factor=2.0, mode="nearest")
                if self._fuse_type == "avg":
                    lateral /= 2
            merged = lateral
            outputs.insert(0, getattr(self, f"fpn_output{level}")(merged))
        if self.top_block is not None:
            source = self.top_block.in_feature
            top = features[source] if source in features else outputs[self._out_features.index(str(source))]
            outputs.extend(self.top_block(top))
        return dict(zip(self._out_features, outputs, strict=True))


@BACKBONE_REGISTRY.register()
def build_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build a ResNet with a feature pyramid from MODEL.RESNETS and MODEL.FPN, p6 added."""
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
