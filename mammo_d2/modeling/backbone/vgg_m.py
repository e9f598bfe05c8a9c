"""VGG-M's convolutional layers as a backbone whose maps are shared by overlapping windows.

The network was made for 224×224 images and pads with zeros inside. Windows cut out of a large image would each be
padded anew, and nothing could be shared between them. Here every layer sees the real surroundings instead: the image
is padded once, and no layer pads. The 13×13 cells of a 224×224 window are then a part of the whole image's map, exactly
those that the window with ``SURROUNDINGS`` pixels around it gives by itself. The cells lie where those of the padded
network lie, so that weights trained with padding fit. ``VGGM.windows`` is the network as published, for windows that
are encoded one by one.

Cell (i, j) of the map is centred on the pixel ``(16 i + 17, 16 j + 17)``.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mammo_d2.framework import BACKBONE_REGISTRY, Backbone, CfgNode, ShapeSpec
from mammo_d2.modeling.layers.receptive_field import MapShape

#: Window of the original network in pixels, and the cells of its last convolution in it (along a side).
WINDOW, WINDOW_CELLS = 224, 13
#: Pixels that the cells of a window see beyond it: (left and top, right and bottom).
SURROUNDINGS = (52, 55)
STRIDE = 16
#: Pixel on which the first cell is centred.
FIRST_CENTRE = 17


class VGGM(Backbone):
    """Five convolutions; one map "conv5", stride 16, ReLU applied.

    An image whose sides are 16·n pixels gives n - 1 cells a side. Parameters are named ``conv1`` ... ``conv5`` as in
    the released Caffe model ("CNN-M-128" differs from the other CNN-M in its fully connected layers only).

    Source:
        Chatfield et al., "Return of the devil in the details", BMVC 2014, table 1.
    """

    def __init__(self, in_channels: int = 3, channels: Sequence[int] = (96, 256, 512, 512, 512), freeze_at: int = 0):
        """
        Args:
            in_channels: of the images.
            channels: of the five convolutions.
            freeze_at: number of convolutions, from the input on, that are not trained (0 to 5).

        Raises:
            ValueError: not five convolutions, or more frozen ones.
        """
        super().__init__()
        if len(channels) != 5 or not 0 <= freeze_at <= 5:
            raise ValueError(
                f"VGG-M has 5 convolutions: MODEL.VGG_M.CHANNELS names {len(channels)}, "
                f"MODEL.BACKBONE.FREEZE_AT {freeze_at}"
            )
        c1, c2, c3, c4, c5 = channels
        self.conv1 = nn.Conv2d(in_channels, c1, kernel_size=7, stride=2)
        self.conv2 = nn.Conv2d(c1, c2, kernel_size=5, stride=2)
        self.conv3 = nn.Conv2d(c2, c3, kernel_size=3)
        self.conv4 = nn.Conv2d(c3, c4, kernel_size=3)
        self.conv5 = nn.Conv2d(c4, c5, kernel_size=3)
        convolutions = [self.conv1, self.conv2, self.conv3, self.conv4, self.conv5]
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # typed as optional
        for layer in convolutions[:freeze_at]:
            layer.requires_grad_(False)
        self._shape = MapShape(channels=c5, stride=STRIDE, first_centre=FIRST_CENTRE + 0.5)

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Of the one map, see the module."""
        return {"conv5": self._shape}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """(N, C, H, W), sides of at least 32 pixels, to {"conv5": (N, 512, H//16 - 1, W//16 - 1)}.

        Beyond the image everything has the mean grey value, like the padding of a batch.
        """
        return {"conv5": self.without_padding(F.pad(x, SURROUNDINGS * 2))}

    #: Side of the windows that ``windows`` takes.
    window = WINDOW

    def windows(self, x: Tensor) -> dict[str, Tensor]:
        """The published network on windows by themselves: (N, C, 224, 224) to {"conv5": (N, 512, 13, 13)}.

        Convolutions 2 to 5 pad with one zero; the second pooling keeps what is left at the border (Caffe's rounding).
        """
        x = _normalized_layer(self.conv1, x.contiguous(memory_format=torch.channels_last))
        x = response_norm(F.relu(_padded(self.conv2, x)))
        x = F.max_pool2d(x, kernel_size=3, stride=2, ceil_mode=True)
        for layer in (self.conv3, self.conv4, self.conv5):
            x = F.relu(_padded(layer, x))
        return {"conv5": x}

    def without_padding(self, x: Tensor) -> Tensor:
        """The layers on an image that has its surroundings already: (N, C, H + 107, W + 107) to (N, 512, h, w)."""
        # Pooling is several times faster with the channels of a pixel side by side, the convolutions are no slower.
        x = x.contiguous(memory_format=torch.channels_last)
        x = _normalized_layer(self.conv1, x)
        x = _normalized_layer(self.conv2, x)
        for layer in (self.conv3, self.conv4, self.conv5):
            x = F.relu(layer(x))
        return x


def _padded(conv: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, conv.weight, conv.bias, conv.stride, padding=1)


def _normalized_layer(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Convolution, ReLU, response normalisation and 3×3 pooling of stride 2, in stripes of the image.

    Between convolution and pooling the map of a whole mammogram has half a gigabyte, of which the normalisation needs
    several copies. A stripe's stay in the processor's cache: a third of the time and of the memory.
    """
    side, stride = conv.kernel_size[0], conv.stride[0]
    rows_before = (x.shape[2] - side) // stride + 1
    rows = (rows_before - 3) // 2 + 1
    stripe = 8 if x.device.type == "cpu" else 256
    parts = []
    for first in range(0, rows, stripe):
        last = min(first + stripe, rows) - 1
        part = x[:, :, stride * 2 * first : stride * (2 * last + 2) + side]
        parts.append(F.max_pool2d(response_norm(F.relu(conv(part))), kernel_size=3, stride=2))
    return torch.cat(parts, dim=2)


def response_norm(x: Tensor) -> Tensor:
    """``x_c / (2 + 1e-4 Σ_{|j - c| ≤ 2} x_j²)^0.75``, the local response normalisation of VGG-M over 5 channels.

    Equals ``local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2)`` of torch (which divides α by 5), without its
    three-dimensional pooling and its power function, which take most of the network's time on a processor.

    Args:
        x: (N, C, h, w); half precision is squared in float32.
    """
    squares = x.float().square() if x.dtype != torch.float64 else x.square()
    total = squares.clone(memory_format=torch.preserve_format)
    for distance in (1, 2):
        total[:, distance:] += squares[:, :-distance]
        total[:, :-distance] += squares[:, distance:]
    root = (2.0 + 1e-4 * total).rsqrt()
    return (x * (root * root.sqrt())).to(x.dtype)


@BACKBONE_REGISTRY.register()
def build_vgg_m_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VGGM:
    """VGG-M for ``input_shape.channels`` channels; MODEL.BACKBONE.FREEZE_AT is its ``freeze_at``."""
    channels = input_shape.channels or 3
    return VGGM(channels, cfg.MODEL.VGG_M.CHANNELS, cfg.MODEL.BACKBONE.FREEZE_AT)
