"""AlexNet's convolutional layers as a backbone; torchvision's ImageNet weights fit as MODEL.WEIGHTS."""

from torch import Tensor, nn
from torchvision.models import alexnet

from mammo_d2.framework import BACKBONE_REGISTRY, Backbone, CfgNode, ShapeSpec
from mammo_d2.modeling.layers.receptive_field import MapShape, reach_of


class AlexNet(Backbone):
    """torchvision's ``features``: one map "pool5", 256 channels, stride 32 (227×227 pixels give 6×6 cells).

    The layers keep torchvision's names, so that its weight file (names ``features.0.weight`` ...) is recognised. Those
    weights want three channels, RGB, MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], PIXEL_STD [58.395, 57.12, 57.375].

    Source:
        Krizhevsky et al. 2012, in the form of Krizhevsky 2014 ("One weird trick").
    """

    def __init__(self, in_channels: int = 3, freeze_at: int = 0):
        """
        Args:
            in_channels: of the images.
            freeze_at: number of convolutions, from the input on, that are not trained (0 to 5).
        """
        super().__init__()
        self.features = alexnet(weights=None).features
        first = self.features[0]
        if in_channels != first.in_channels:
            self.features[0] = nn.Conv2d(
                in_channels, first.out_channels, first.kernel_size, first.stride, first.padding
            )
        convolutions = [layer for layer in self.features if isinstance(layer, nn.Conv2d)]
        if not 0 <= freeze_at <= len(convolutions):
            raise ValueError(f"MODEL.BACKBONE.FREEZE_AT is {freeze_at}; AlexNet has {len(convolutions)} convolutions")
        for layer in convolutions[:freeze_at]:
            layer.requires_grad_(False)
        reach = reach_of(self.features)
        self._shape = MapShape(channels=256, stride=reach.stride, first_centre=reach.first_centre)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Of the one map; its first cell is centred at 31.5 pixels."""
        return {"pool5": self._shape}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W), at least 63 pixels a side, to {"pool5": (N, 256, h, w)}."""
        return {"pool5": self.features(x)}


@BACKBONE_REGISTRY.register()
def build_alexnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> AlexNet:
    """AlexNet for ``input_shape.channels`` channels; MODEL.BACKBONE.FREEZE_AT is its ``freeze_at``."""
    return AlexNet(input_shape.channels or 3, cfg.MODEL.BACKBONE.FREEZE_AT)
