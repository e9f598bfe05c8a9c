"""The box head: from the pooled features of a region to the vector that the predictor sees."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from fvcore.common.registry import Registry
from fvcore.nn.weight_init import c2_msra_fill, c2_xavier_fill
from torch import nn

from mammo_d2.framework.embedded.backbone.layers import Conv2d, ShapeSpec, get_norm
from mammo_d2.framework.embedded.config import CfgNode, configurable

# Classes called as f(cfg, input_shape: ShapeSpec) that have an ``output_shape``.
ROI_BOX_HEAD_REGISTRY = Registry("ROI_BOX_HEAD")


@ROI_BOX_HEAD_REGISTRY.register()
class FastRCNNConvFCHead(nn.Sequential):
    """3x3 convolutions, then fully connected layers, each followed by a ReLU."""

    @configurable
    def __init__(
        self, input_shape: ShapeSpec, *, conv_dims: Sequence[int], fc_dims: Sequence[int], conv_norm: Any = ""
    ) -> None:
        """Make the layers.

        Args:
            input_shape: channels, height and width of the input.
            conv_dims: channels of each convolution.
            fc_dims: width of each fully connected layer.
            conv_norm: normalisation of the convolutions, see ``get_norm``; they have a bias only without one.

        Raises:
            ValueError: there is no layer at all.
        """
        super().__init__()
        if not conv_dims and not fc_dims:
            raise ValueError("MODEL.ROI_BOX_HEAD.NUM_CONV and NUM_FC are both 0; the head needs a layer")
        channels, height, width = input_shape.channels, input_shape.height, input_shape.width
        convs, fcs = [], []
        for i, dim in enumerate(conv_dims, start=1):
            norm = get_norm(conv_norm, dim)
            convs.append(Conv2d(channels, dim, 3, padding=1, bias=not conv_norm, norm=norm, activation=F.relu_))
            self.add_module(f"conv{i}", convs[-1])
            channels = dim
        self._output_shape = ShapeSpec(channels=channels, height=height, width=width)
        if fc_dims:
            self.add_module("flatten", nn.Flatten())
            size = channels * height * width  # type: ignore[operator]
            for i, dim in enumerate(fc_dims, start=1):
                fcs.append(nn.Linear(size, dim))
                self.add_module(f"fc{i}", fcs[-1])
                self.add_module(f"fc_relu{i}", nn.ReLU(inplace=True))
                size = dim
            self._output_shape = ShapeSpec(channels=size)
        for conv in convs:
            c2_msra_fill(conv)
        for fc in fcs:
            c2_xavier_fill(fc)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        head = cfg.MODEL.ROI_BOX_HEAD
        return {
            "input_shape": input_shape,
            "conv_dims": [head.CONV_DIM] * head.NUM_CONV,
            "fc_dims": [head.FC_DIM] * head.NUM_FC,
            "conv_norm": head.NORM,
        }

    @property
    def output_shape(self) -> ShapeSpec:
        """Channels, and height and width if the last layer is a convolution."""
        return self._output_shape


def build_box_head(cfg: CfgNode, input_shape: ShapeSpec) -> nn.Module:
    """Build the head named by MODEL.ROI_BOX_HEAD.NAME."""
    return ROI_BOX_HEAD_REGISTRY.get(cfg.MODEL.ROI_BOX_HEAD.NAME)(cfg, input_shape)
