"""The base class of backbones, and their registry."""

from abc import ABCMeta, abstractmethod

from fvcore.common.registry import Registry
from torch import Tensor, nn

from mammo_d2.framework.embedded.backbone.layers import ShapeSpec
from mammo_d2.framework.embedded.config import CfgNode

# Functions or classes called as f(cfg, input_shape: ShapeSpec) that give a Backbone.
BACKBONE_REGISTRY = Registry("BACKBONE")


class Backbone(nn.Module, metaclass=ABCMeta):
    """A network from an image batch to named feature maps.

    A subclass fills ``_out_features`` (names), ``_out_feature_channels`` and ``_out_feature_strides`` (by name), or
    overrides ``output_shape``.
    """

    _out_features: list[str]
    _out_feature_channels: dict[str, int]
    _out_feature_strides: dict[str, int]

    @abstractmethod
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map images ``(N, C, H, W)`` to features ``{name: (N, C', H', W')}``."""

    @property
    def size_divisibility(self) -> int:
        """Height and width of the input must be multiples of this; 0: any size will do."""
        return 0

    @property
    def padding_constraints(self) -> dict[str, int]:
        """Further constraints on the input size, see ``ImageList.from_tensors``."""
        return {}

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of every feature map."""
        return {
            name: ShapeSpec(channels=self._out_feature_channels[name], stride=self._out_feature_strides[name])
            for name in self._out_features
        }


def build_backbone(cfg: CfgNode, input_shape: ShapeSpec | None = None) -> Backbone:
    """Build the backbone named by MODEL.BACKBONE.NAME; its input has one channel per entry of MODEL.PIXEL_MEAN.

    Raises:
        KeyError: no backbone is registered under the name.
        TypeError: what is registered there gives no Backbone.
    """
    name = cfg.MODEL.BACKBONE.NAME
    backbone = BACKBONE_REGISTRY.get(name)(cfg, input_shape or ShapeSpec(channels=len(cfg.MODEL.PIXEL_MEAN)))
    if not isinstance(backbone, Backbone):
        raise TypeError(f"MODEL.BACKBONE.NAME: {name!r} gives a {type(backbone).__name__}, not a Backbone")
    return backbone
